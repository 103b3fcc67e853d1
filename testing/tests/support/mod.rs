//! How a law is seen to fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// `law` must fail, and say that it is broken, and how.
#[track_caller]
pub(crate) fn assert_broken(law: impl FnOnce(), how: &str) {
    let panic = catch_unwind(AssertUnwindSafe(law));
    let panic = panic.expect_err("the law holds for a layer that breaks it");
    let said = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).expect("a message");
    assert!(said.starts_with("law broken") && said.contains(how), "{said}");
}
