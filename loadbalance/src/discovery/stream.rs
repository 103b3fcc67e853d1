use std::{future::poll_fn, pin::pin, task::Poll};

use tower::discover::{Change, Discover};

use crate::{Balance, BalanceEvent, Endpoint, RefusedUpdate};

/// Follows a stream of `tower`'s discovery: inserts and removes endpoints as it says, until it
/// ends. Endpoints have weight 1; when the stream ends or fails they stay as they are.
///
/// Changes that are there at the same time are applied together, with one new index.
///
/// ```
/// use outrigger_loadbalance::{Balance, BalancePolicy, follow};
/// use tower::discover::ServiceList;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let balance = Balance::new(BalancePolicy::default());
/// let services = [0, 1].map(|_| tower::service_fn(|()| async { Ok::<_, tower::BoxError>(()) }));
/// follow(&balance, ServiceList::new::<()>(services)).await.unwrap();
/// assert_eq!(balance.status().endpoints.len(), 2);
/// # }
/// ```
///
/// # Errors
///
/// The stream's own error, at which it ends.
///
/// # Cancel safety
///
/// Dropping it stops following; what was applied stays, and nothing is applied by halves.
pub async fn follow<D>(balance: &Balance<D::Service>, stream: D) -> Result<(), D::Error>
where
    D: Discover,
    D::Key: ToString,
    D::Service: Clone,
{
    let mut stream = pin!(stream);
    loop {
        let mut changes = Vec::new();
        let end = poll_fn(|cx| {
            loop {
                match stream.as_mut().poll_discover(cx) {
                    Poll::Ready(Some(Ok(change))) => changes.push(change),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(None) => return Poll::Ready(Some(Ok(()))),
                    Poll::Pending if changes.is_empty() => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(None),
                }
            }
        })
        .await;
        apply(balance, changes);
        match end {
            None => {}
            Some(end) => {
                if end.is_err() {
                    let event = BalanceEvent::UpdateRefused { cause: RefusedUpdate::Failed };
                    balance.shared.fleet.tell_of("", &event);
                }
                return end;
            }
        }
    }
}

fn apply<K: ToString, S: Clone>(balance: &Balance<S>, changes: Vec<Change<K, S>>) {
    if changes.is_empty() {
        return;
    }
    balance.shared.change(|changing, _| {
        for change in changes {
            match change {
                Change::Insert(key, service) => {
                    changing.insert(Endpoint::new(key.to_string(), service));
                }
                Change::Remove(key) => changing.remove(&key.to_string()),
            }
        }
    });
}
