//! Hashes that never change: keys and endpoints map the same way in every process.

use twox_hash::XxHash64;

/// What a consistent hash maps to an endpoint: the hash of a user id, a session, a shard.
///
/// The hash is xxHash64 with seed 0, as in gRPC's and Envoy's ring hash. It is the same in every
/// process, on every platform and in every version of this crate.
///
/// ```
/// use outrigger_loadbalance::HashKey;
///
/// assert_eq!(HashKey::of("user-17"), HashKey::of(b"user-17"));
/// assert_eq!(HashKey::of("").get(), 0xef46_db37_51d8_e999);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HashKey(u64);

impl HashKey {
    /// Hashes bytes or a string.
    #[must_use]
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(XxHash64::oneshot(0, bytes.as_ref()))
    }

    /// Takes a hash that was made elsewhere. All 64 bits must be well mixed: a plain counter is
    /// not; give its bytes to [`of`](Self::of).
    #[must_use]
    pub const fn from_hash(hash: u64) -> Self {
        Self(hash)
    }

    /// The 64 bits.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The id of an endpoint: the hash of its key, never 0 (which [`Tried`] takes for 1).
///
/// [`Tried`]: outrigger_core::Tried
pub(crate) fn endpoint_id(key: &str) -> u64 {
    HashKey::of(key).get().max(1)
}

/// Mixes 64 bits one to one: the finalizer of `SplitMix64` (Steele, Lea, Flood, 2014).
pub(crate) const fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Maps well mixed bits to `0..n` without a division (Lemire, 2019).
#[expect(clippy::cast_possible_truncation, reason = "the product's upper half is below n")]
pub(crate) const fn reduce(bits: u64, n: usize) -> usize {
    ((bits as u128 * n as u128) >> 64) as usize
}

/// Reads from a request what it is hashed by, for [`Picker::ConsistentHash`] and
/// [`Picker::Maglev`].
///
/// `None` means that the request does not say. A closure is one:
///
/// ```
/// use outrigger_loadbalance::{HashBy, HashKey};
///
/// struct Order { customer: String }
///
/// let by_customer = |order: &Order| Some(HashKey::of(&order.customer));
/// let order = Order { customer: "ada".into() };
/// assert_eq!(by_customer.hash_key(&order), Some(HashKey::of("ada")));
/// ```
///
/// [`Picker::ConsistentHash`]: crate::Picker::ConsistentHash
/// [`Picker::Maglev`]: crate::Picker::Maglev
pub trait HashBy<Request> {
    /// The key of `request`.
    fn hash_key(&self, request: &Request) -> Option<HashKey>;
}

impl<F, Request> HashBy<Request> for F
where
    F: Fn(&Request) -> Option<HashKey>,
{
    fn hash_key(&self, request: &Request) -> Option<HashKey> {
        self(request)
    }
}

/// No request has a key. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoKey;

impl<Request> HashBy<Request> for NoKey {
    fn hash_key(&self, _request: &Request) -> Option<HashKey> {
        None
    }
}

/// The key is the value of a header.
#[cfg(feature = "http")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderKey(pub http::HeaderName);

#[cfg(feature = "http")]
impl<B> HashBy<http::Request<B>> for HeaderKey {
    fn hash_key(&self, request: &http::Request<B>) -> Option<HashKey> {
        request.headers().get(&self.0).map(|value| HashKey::of(value.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_are_those_of_the_published_vectors() {
        // Vectors of the xxHash specification and of SplitMix64's reference program.
        assert_eq!(HashKey::of("a").get(), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(HashKey::of("abc").get(), 0x44bc_2cf5_ad77_0999);
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn reducing_stays_below_n_and_is_even() {
        let mut counts = [0; 7];
        for n in 0..70_000 {
            counts[reduce(mix(n), 7)] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert_eq!(reduce(u64::MAX, 1), 0);
    }
}
