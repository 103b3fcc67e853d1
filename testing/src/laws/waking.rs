use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::{check, finish, start};
use crate::{Answer, Scripted};

/// While the inner call waits, the layer's call is not woken; when it goes on, the layer's call is.
///
/// # Panics
///
/// When the law is broken.
pub fn no_wake_up_is_lost_or_spun<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    check(make, |mut service, script| {
        script.answer(Answer::Pending);
        let mut call = start(&mut service, 1);
        for _ in 0..3 {
            assert!(call.poll().is_pending(), "law broken: an answer came too early");
            assert!(!call.is_woken(), "law broken: a call that waits wakes itself");
        }
        let polls = script.polls();
        assert!(polls <= 3, "law broken: the inner future was polled {polls} times in 3");
        script.answer(Answer::Ok);
        assert!(call.is_woken(), "law broken: a wake-up of the inner call was lost");
        let result = finish(&mut call);
        assert!(
            result.is_ok_and(|answer| answer == 2),
            "law broken: an answer was lost on its way"
        );
    });
}
