use std::{
    cell::RefCell,
    marker::{PhantomData, PhantomPinned},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tower::BoxError;
use tower_service::Service;

use crate::{Script, Scripted, ScriptedFuture};

/// A [`Scripted`] service that is nothing but a `Service`: neither `Send`, `Sync` nor `'static`,
/// and its future is not `Unpin` either.
///
/// It is `Clone` only where `CLONE` is `true`, for layers that make several calls of one.
#[derive(Debug)]
pub struct Bare<'a, const CLONE: bool = false> {
    scripted: Scripted,
    owes: PhantomData<Owes<'a>>,
}

/// What is neither `Send`, `Sync` nor `'static`.
type Owes<'a> = (Rc<()>, &'a ());

impl<'a, const CLONE: bool> Bare<'a, CLONE> {
    /// A service that does what `script` says.
    #[must_use]
    pub fn new(script: &'a Script) -> Self {
        Self { scripted: Scripted::new(script.clone()), owes: PhantomData }
    }
}

impl Clone for Bare<'_, true> {
    fn clone(&self) -> Self {
        Self { scripted: self.scripted.clone(), owes: PhantomData }
    }
}

impl<'a, const CLONE: bool> Service<u32> for Bare<'a, CLONE> {
    type Response = u32;
    type Error = BoxError;
    type Future = BareFuture<'a>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.scripted.poll_ready(cx)
    }

    fn call(&mut self, request: u32) -> BareFuture<'a> {
        let scripted = RefCell::new(self.scripted.call(request));
        BareFuture { scripted, owes: PhantomData }
    }
}

/// Response future of [`Bare`].
#[derive(Debug)]
pub struct BareFuture<'a> {
    scripted: RefCell<ScriptedFuture>,
    owes: PhantomData<(Owes<'a>, PhantomPinned)>,
}

impl Future for BareFuture<'_> {
    type Output = Result<u32, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut *self.scripted.borrow_mut()).poll(cx)
    }
}
