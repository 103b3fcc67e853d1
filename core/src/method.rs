use std::{
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use equivalent::Equivalent;
use foldhash::fast::RandomState;

/// The name of a method: the service and the method within it.
///
/// Policies, keys and labels name a call by it. It clones by counting; looking one up takes a
/// borrowed [`MethodRef`] and so needs no allocation.
///
/// ```
/// use outrigger_core::Method;
///
/// let method = Method::new("shop.Orders", "Place");
/// assert_eq!(method.to_string(), "shop.Orders/Place");
/// ```
#[derive(Clone)]
pub struct Method {
    /// Service and method, joined by a slash.
    name: Arc<str>,
    service_len: usize,
}

impl Method {
    /// Names `method` of `service`.
    #[must_use]
    pub fn new(service: &str, method: &str) -> Self {
        MethodRef { service, method }.to_owned()
    }

    /// The service: for gRPC with its package, `shop.Orders`.
    #[inline]
    #[must_use]
    pub fn service(&self) -> &str {
        &self.name[..self.service_len]
    }

    /// The method within the service.
    #[inline]
    #[must_use]
    pub fn method(&self) -> &str {
        &self.name[self.service_len + 1..]
    }

    /// Both, as `service/method`: OpenTelemetry's `rpc.method`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The borrowed form.
    #[inline]
    #[must_use]
    pub fn as_ref(&self) -> MethodRef<'_> {
        MethodRef { service: self.service(), method: self.method() }
    }
}

impl PartialEq<MethodRef<'_>> for Method {
    #[inline]
    fn eq(&self, name: &MethodRef<'_>) -> bool {
        let (bytes, service) = (self.name.as_bytes(), name.service.as_bytes());
        // By its length the slash stands where it should, so that no letter of one is the other's.
        self.service_len == service.len()
            && bytes.get(..service.len()).is_some_and(|own| are_same(own, service))
            && bytes
                .get(service.len() + 1..)
                .is_some_and(|own| are_same(own, name.method.as_bytes()))
    }
}

/// Names are mostly so short that to call the system's comparison costs more than to compare their
/// two ends, which meet or overlap.
#[inline]
fn are_same(a: &[u8], b: &[u8]) -> bool {
    const fn ends<const N: usize>(of: &[u8]) -> Option<(&[u8; N], &[u8; N])> {
        match (of.first_chunk(), of.last_chunk()) {
            (Some(first), Some(last)) => Some((first, last)),
            _ => None,
        }
    }
    if a.len() != b.len() {
        return false;
    }
    match a.len() {
        1 => a[0] == b[0],
        2..=3 => ends::<2>(a) == ends::<2>(b),
        4..=8 => ends::<4>(a) == ends::<4>(b),
        9..=16 => ends::<8>(a) == ends::<8>(b),
        _ => a == b,
    }
}

/// A method's name, borrowed from a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a name is these two parts")]
pub struct MethodRef<'a> {
    /// The service: for gRPC with its package, `shop.Orders`.
    pub service: &'a str,
    /// The method within the service.
    pub method: &'a str,
}

impl<'a> MethodRef<'a> {
    /// Reads the path of a gRPC call, `/shop.Orders/Place`.
    ///
    /// `None` when the path does not have that form.
    ///
    /// ```
    /// use outrigger_core::MethodRef;
    ///
    /// let method = MethodRef::from_grpc_path("/shop.Orders/Place").unwrap();
    /// assert_eq!((method.service, method.method), ("shop.Orders", "Place"));
    /// assert_eq!(MethodRef::from_grpc_path("/health"), None);
    /// ```
    #[must_use]
    pub fn from_grpc_path(path: &'a str) -> Option<Self> {
        let (service, method) = path.strip_prefix('/')?.rsplit_once('/')?;
        (!service.is_empty() && !method.is_empty()).then_some(Self { service, method })
    }

    /// The owned form.
    #[must_use]
    pub fn to_owned(self) -> Method {
        Method { name: self.to_string().into(), service_len: self.service.len() }
    }
}

impl fmt::Display for MethodRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.method)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Method({:?})", &self.name)
    }
}

impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for Method {}

/// As [`MethodRef`] hashes, so that one finds the other.
impl Hash for Method {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ref().hash(state);
    }
}

impl Equivalent<Method> for MethodRef<'_> {
    fn equivalent(&self, key: &Method) -> bool {
        *self == key.as_ref()
    }
}

/// Reads from a request which method it is for.
///
/// `None` means that the request does not say; the default policy applies then. Give a bounded set
/// of names: axum's matched route, never its raw path. A closure that returns a borrowed name is
/// one:
///
/// ```
/// use outrigger_core::{MethodRef, NameMethod};
///
/// struct Frame { service: String, method: String }
///
/// fn name(frame: &Frame) -> Option<MethodRef<'_>> {
///     Some(MethodRef { service: &frame.service, method: &frame.method })
/// }
///
/// let frame = Frame { service: "orders".into(), method: "place".into() };
/// assert_eq!(name.name_method(&frame).unwrap().to_string(), "orders/place");
/// ```
pub trait NameMethod<Request> {
    /// The method that `request` is for.
    fn name_method<'a>(&self, request: &'a Request) -> Option<MethodRef<'a>>;
}

impl<F, Request> NameMethod<Request> for F
where
    F: for<'a> Fn(&'a Request) -> Option<MethodRef<'a>>,
{
    fn name_method<'a>(&self, request: &'a Request) -> Option<MethodRef<'a>> {
        self(request)
    }
}

/// Reads the method from the path of a gRPC request.
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrpcPath;

#[cfg(feature = "http")]
impl<B> NameMethod<http::Request<B>> for GrpcPath {
    fn name_method<'a>(&self, request: &'a http::Request<B>) -> Option<MethodRef<'a>> {
        MethodRef::from_grpc_path(request.uri().path())
    }
}

/// What is set per method: the exact method comes before its service, the service before the
/// default.
///
/// The precedence is that of gRPC's service config and of Kitex. A look-up allocates nothing.
///
/// ```
/// use outrigger_core::{Method, MethodRef, PerMethod};
///
/// let retries = PerMethod::new(2)
///     .with_service("shop.Orders", 1)
///     .with_method(Method::new("shop.Orders", "Place"), 0);
///
/// let get = |service, method| *retries.get(Some(MethodRef { service, method }));
/// assert_eq!(get("shop.Orders", "Place"), 0);
/// assert_eq!(get("shop.Orders", "List"), 1);
/// assert_eq!(get("shop.Stock", "List"), 2);
/// assert_eq!(*retries.get(None), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerMethod<T> {
    default: T,
    services: HashMap<Box<str>, OfService<T>, RandomState>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct OfService<T> {
    default: Option<T>,
    methods: HashMap<Box<str>, T, RandomState>,
}

impl<T> PerMethod<T> {
    /// Sets `default` for every method.
    #[must_use]
    pub fn new(default: T) -> Self {
        Self { default, services: HashMap::default() }
    }

    /// Sets `value` for the methods of `service` that have none of their own.
    #[must_use]
    pub fn with_service(mut self, service: &str, value: T) -> Self {
        self.of_service(service).default = Some(value);
        self
    }

    /// Sets `value` for one method.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "a name is given away with its value")]
    pub fn with_method(mut self, method: Method, value: T) -> Self {
        self.of_service(method.service()).methods.insert(method.method().into(), value);
        self
    }

    fn of_service(&mut self, service: &str) -> &mut OfService<T> {
        let empty = || OfService { default: None, methods: HashMap::default() };
        self.services.entry(service.into()).or_insert_with(empty)
    }

    /// What is set for `method`; the default for a call that names none.
    #[must_use]
    pub fn get(&self, method: Option<MethodRef<'_>>) -> &T {
        self.set_for(method).unwrap_or(&self.default)
    }

    fn set_for(&self, method: Option<MethodRef<'_>>) -> Option<&T> {
        let MethodRef { service, method } = method?;
        let of_service = self.services.get(service)?;
        of_service.methods.get(method).or(of_service.default.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_borrowed_name_finds_its_owned_one() {
        let methods = papaya::HashMap::new();
        methods.pin().insert(Method::new("a.B", "C"), 1);
        let found = |service, method| methods.pin().get(&MethodRef { service, method }).copied();
        assert_eq!(found("a.B", "C"), Some(1));
        assert_eq!(found("a.", "BC"), None);
        assert_eq!(Method::new("a.B", "C").service(), "a.B");
        assert_eq!(Method::new("a.B", "C").method(), "C");
    }

    #[test]
    fn a_method_is_what_it_is_named_of_any_length_and_nothing_else() {
        const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";
        let names: Vec<_> = (0..20).map(|len| &LETTERS[..len]).collect();
        for service in &names {
            for method in &names {
                let own = Method::new(service, method);
                assert!(own == own.as_ref(), "{own}");
                for at in 0..service.len() + method.len() {
                    let mut changed = format!("{service}{method}");
                    changed.replace_range(at..=at, "-");
                    let (service, method) = changed.split_at(service.len());
                    assert!(own != MethodRef { service, method }, "{own} at {at}");
                }
                let longer = format!("{method}-");
                assert!(own != MethodRef { service, method: &longer }, "{own}");
                assert!(Method::new(service, &longer) != own.as_ref(), "{own}");
            }
        }
        assert!(Method::new("a", "b/c") != Method::new("a/b", "c").as_ref());
    }

    #[test]
    fn only_a_path_of_two_parts_names_a_grpc_method() {
        let named = |path| MethodRef::from_grpc_path(path).map(|method| method.to_string());
        assert_eq!(named("/a.B/C").as_deref(), Some("a.B/C"));
        assert_eq!(["", "/", "//", "/a", "a/b", "/a/", "//b"].map(named), [const { None }; 7]);
    }

    #[test]
    fn names_with_slashes_in_different_places_are_different() {
        assert_ne!(Method::new("a", "b/c"), Method::new("a/b", "c"));
    }
}
