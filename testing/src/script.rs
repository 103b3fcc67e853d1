use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
};

/// What a scripted service does, and what it has seen. Clones share the script.
///
/// Says `Ready` and `Ok` until it is told otherwise.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub(crate) seen: Arc<Seen>,
    lines: Arc<Mutex<Lines>>,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) calls: AtomicUsize,
    pub(crate) polls: AtomicUsize,
    pub(crate) ready_polls: AtomicUsize,
    pub(crate) alive: AtomicUsize,
    pub(crate) abandoned: AtomicUsize,
    #[cfg(feature = "http")]
    pub(crate) bodies_alive: AtomicUsize,
}

#[derive(Debug, Default)]
struct Lines {
    readiness: Readiness,
    answer: Answer,
    /// Answers of the next calls, before `answer` stands again.
    next: VecDeque<Answer>,
    /// `None` is as many as anybody likes.
    free_places: Option<usize>,
    waiting: Vec<Waker>,
    #[cfg(feature = "http")]
    body: crate::Frames,
}

/// What `poll_ready` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// Ready at once.
    #[default]
    Ready,
    /// Pending for so many more polls, waking itself each time; then ready. All values share the
    /// count.
    ReadyAfter(usize),
    /// Pending until the script says otherwise.
    Pending,
    /// A [`ScriptedError`].
    Error,
    /// A panic.
    Panic,
}

/// What becomes of a call. A call keeps the answer that stood when it was made, except that one
/// made while `Pending` stands gets the answer that comes after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// The request plus one.
    #[default]
    Ok,
    /// A [`ScriptedError`].
    Error,
    /// Pending so many times, waking itself each time; then the request plus one.
    OkAfter(usize),
    /// Pending so many times, waking itself each time; then a [`ScriptedError`].
    ErrorAfter(usize),
    /// Pending until the script says otherwise.
    Pending,
    /// A panic in `call`.
    PanicInCall,
    /// Pending so many times, waking itself each time; then a panic.
    PanicAfter(usize),
}

/// The user's own error, which every layer must pass on as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScriptedError;

impl fmt::Display for ScriptedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the scripted inner service failed")
    }
}

impl Error for ScriptedError {}

impl Script {
    /// Says what `poll_ready` answers from now on, and wakes who waits.
    pub fn readiness(&self, readiness: Readiness) {
        self.rewrite(|lines| lines.readiness = readiness);
    }

    /// Says what becomes of calls from now on, and wakes who waits.
    pub fn answer(&self, answer: Answer) {
        self.rewrite(|lines| lines.answer = answer);
    }

    /// Says what becomes of the next calls, one after another. After them the standing
    /// [`answer`](Self::answer) holds again.
    pub fn next_answers(&self, answers: impl IntoIterator<Item = Answer>) {
        self.lines().next.extend(answers);
    }

    /// Lets no more than `places` values be ready or have a call running at a time, as a
    /// connection pool or tower's `ConcurrencyLimit` does. A value takes its place in `poll_ready`,
    /// and gives it back when its call ends or is dropped, or when it is dropped uncalled.
    ///
    /// There is no such limit unless this is called. Call it while nobody holds a place.
    pub fn places(&self, places: usize) {
        self.rewrite(|lines| lines.free_places = Some(places));
    }

    /// Says what body the responses of [`ScriptedHttp`](crate::ScriptedHttp) have from now on.
    #[cfg(feature = "http")]
    pub fn body(&self, body: crate::Frames) {
        self.rewrite(|lines| lines.body = body);
    }

    /// How many calls were made.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.seen.calls.load(Ordering::Relaxed)
    }

    /// How often the futures of calls were polled.
    #[must_use]
    pub fn polls(&self) -> usize {
        self.seen.polls.load(Ordering::Relaxed)
    }

    /// How often `poll_ready` was asked.
    #[must_use]
    pub fn ready_polls(&self) -> usize {
        self.seen.ready_polls.load(Ordering::Relaxed)
    }

    /// How many futures of calls were not dropped yet, whether they are over or not.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.seen.alive.load(Ordering::Relaxed)
    }

    /// How many futures of calls were dropped before they were over.
    #[must_use]
    pub fn abandoned(&self) -> usize {
        self.seen.abandoned.load(Ordering::Relaxed)
    }

    /// How many response bodies were not dropped yet.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn bodies_alive(&self) -> usize {
        self.seen.bodies_alive.load(Ordering::Relaxed)
    }

    /// What stands for `poll_ready`, one poll further on.
    pub(crate) fn take_readiness(&self) -> Readiness {
        let mut lines = self.lines();
        let readiness = lines.readiness;
        if let Readiness::ReadyAfter(more) = readiness {
            lines.readiness = match more {
                0 => Readiness::Ready,
                more => Readiness::ReadyAfter(more - 1),
            };
        }
        readiness
    }

    /// The answer of a call that is made now.
    pub(crate) fn take_answer(&self) -> Answer {
        let mut lines = self.lines();
        let standing = lines.answer;
        lines.next.pop_front().unwrap_or(standing)
    }

    pub(crate) fn standing_answer(&self) -> Answer {
        self.lines().answer
    }

    #[cfg(feature = "http")]
    pub(crate) fn standing_body(&self) -> crate::Frames {
        self.lines().body
    }

    /// `None` if all are taken.
    pub(crate) fn take_place(&self) -> Option<Place> {
        let mut lines = self.lines();
        let counts = match &mut lines.free_places {
            None => false,
            Some(0) => return None,
            Some(free) => {
                *free -= 1;
                true
            }
        };
        drop(lines);
        Some(Place { script: counts.then(|| self.clone()) })
    }

    pub(crate) fn wait(&self, cx: &Context<'_>) {
        self.lines().waiting.push(cx.waker().clone());
    }

    fn rewrite(&self, change: impl FnOnce(&mut Lines)) {
        let waiting = {
            let mut lines = self.lines();
            change(&mut lines);
            std::mem::take(&mut lines.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to be ready and to make one call. Given back by `Drop`.
#[derive(Debug)]
pub(crate) struct Place {
    /// `None` where places are not counted.
    script: Option<Script>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(script) = &self.script {
            script.rewrite(|lines| lines.free_places = lines.free_places.map(|free| free + 1));
        }
    }
}
