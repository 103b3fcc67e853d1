//! What somebody sees who only looks on, and what that keeps alive: nothing.

use outrigger_core::InvalidPolicy;
use outrigger_ratelimit::{
    BeyondLimit, ClientThrottle, ClientThrottlePanel, ClientThrottlePolicy, ConcurrencyLimit,
    ConcurrencyLimitPanel, ConcurrencyLimitPolicy, ConnectionLimit, RateLimit, RateLimitPanel,
    RateLimitPolicy,
};

macro_rules! lives_as_long_as_its_handles {
    ($handle:expr) => {{
        let handle = $handle;
        let weak = handle.downgrade();
        let other = weak.upgrade().expect("there is a handle");
        drop(handle);
        assert!(weak.clone().upgrade().is_some(), "there is another handle");
        drop(other);
        assert!(weak.upgrade().is_none(), "there is no handle left");
    }};
}

#[tokio::test(start_paused = true)]
async fn a_weak_handle_keeps_nothing_alive() -> Result<(), InvalidPolicy> {
    lives_as_long_as_its_handles!(ConcurrencyLimit::new(ConcurrencyLimitPolicy::default()));
    lives_as_long_as_its_handles!(ConcurrencyLimitPanel::<u8>::new(
        ConcurrencyLimitPolicy::default()
    ));
    lives_as_long_as_its_handles!(RateLimit::new(RateLimitPolicy::default()));
    lives_as_long_as_its_handles!(RateLimitPanel::<u8>::new(RateLimitPolicy::default()));
    lives_as_long_as_its_handles!(ClientThrottle::new(ClientThrottlePolicy::default()));
    lives_as_long_as_its_handles!(ClientThrottlePanel::<u8>::new(ClientThrottlePolicy::default()));
    lives_as_long_as_its_handles!(ConnectionLimit::new(1, BeyondLimit::Refuse)?);
    Ok(())
}

#[test]
fn the_limit_that_is_told_is_that_of_the_present_policy() -> Result<(), InvalidPolicy> {
    let limit = ConcurrencyLimit::new(ConcurrencyLimitPolicy::builder().limit(3).build()?);
    assert_eq!(limit.limit(), 3);
    limit.policy().replace(ConcurrencyLimitPolicy::builder().limit(5).build()?);
    assert_eq!(limit.limit(), 5);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_panel_of_rate_limits_lists_its_keys() -> Result<(), Box<dyn std::error::Error>> {
    let panel = RateLimitPanel::<u8>::new(RateLimitPolicy::builder().rate(10).burst(5).build()?);
    panel.limit(&7).try_acquire(2)?;
    let listed: Vec<_> = panel.list().iter().map(|(key, limit)| (*key, limit.tokens())).collect();
    assert_eq!(listed, [(7, 3)]);
    Ok(())
}
