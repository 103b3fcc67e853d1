//! Handles that keep nothing alive: for who only looks on.

/// Makes the weak form of a handle that is one `Arc`.
macro_rules! weak_handle {
    ($(#[$doc:meta])* $Weak:ident<$($param:ident),+> of $Handle:ident: $shared:ty) => {
        $(#[$doc])*
        pub struct $Weak<$($param),+> {
            shared: std::sync::Weak<$shared>,
        }

        impl<$($param),+> $Weak<$($param),+> {
            pub(super) fn new(shared: &std::sync::Arc<$shared>) -> Self {
                Self { shared: std::sync::Arc::downgrade(shared) }
            }

            /// The handle, while anybody else has one.
            #[must_use]
            pub fn upgrade(&self) -> Option<$Handle<$($param),+>> {
                self.shared.upgrade().map($Handle::from_shared)
            }
        }

        impl<$($param),+> Clone for $Weak<$($param),+> {
            fn clone(&self) -> Self {
                Self { shared: std::sync::Weak::clone(&self.shared) }
            }
        }

        impl<$($param),+> std::fmt::Debug for $Weak<$($param),+> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($Weak)).finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use weak_handle;
