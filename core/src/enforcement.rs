/// Whether a policy acts, only says what it would do, or does nothing.
///
/// Every policy of every crate has one, and it can be changed while traffic flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Enforcement {
    /// Decides and acts.
    #[default]
    Enforced,
    /// Decides, counts and reports what it would have done; never refuses, delays or re-routes.
    Shadow,
    /// Passes every call through and records nothing: the governance is taken over by a mesh or
    /// an operator (Kitex: taken off the framework). State is kept for the day it comes back.
    Disabled,
}
