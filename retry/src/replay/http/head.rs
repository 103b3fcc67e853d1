use std::cell::RefCell;

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, request::Parts,
};

/// A request's head, to be made again.
///
/// It stands where that of an earlier call of this thread stood: most are dropped unread, and to
/// allocate each would be the dearest part of it.
#[derive(Debug)]
pub(super) struct KeptHead {
    /// There until this is dropped.
    head: Option<Box<Head>>,
}

/// The headers are a list and no map: to copy a map costs two allocations.
#[derive(Debug, Default)]
struct Head {
    method: Method,
    uri: Uri,
    version: Version,
    headers: Vec<(HeaderName, HeaderValue)>,
    extensions: Extensions,
}

/// How many places a thread keeps for heads to come, about 200 bytes and the list each.
const MOST_PLACES: usize = 64;
/// A list of more headers than this is not kept, at 72 bytes each.
const MOST_HEADERS: usize = 32;

std::thread_local! {
    #[expect(clippy::vec_box, reason = "a call is given the place itself, not its 200 bytes")]
    static PLACES: RefCell<Vec<Box<Head>>> = const { RefCell::new(Vec::new()) };
}

impl KeptHead {
    pub(super) fn of(parts: &Parts) -> Self {
        let place = PLACES.try_with(|places| places.borrow_mut().pop());
        let mut head = place.ok().flatten().unwrap_or_default();
        let pair = |(name, value): (&HeaderName, &HeaderValue)| (name.clone(), value.clone());
        head.method = parts.method.clone();
        head.uri = parts.uri.clone();
        head.version = parts.version;
        head.headers.extend(parts.headers.iter().map(pair));
        head.extensions = parts.extensions.clone();
        Self { head: Some(head) }
    }

    /// A request with this head.
    pub(super) fn with<B>(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        let Some(head) = &self.head else { return request };
        let Head { method, uri, version, headers: pairs, extensions } = &**head;
        let mut headers = HeaderMap::with_capacity(pairs.len());
        for (name, value) in pairs {
            headers.append(name, value.clone());
        }
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        *request.version_mut() = *version;
        *request.headers_mut() = headers;
        *request.extensions_mut() = extensions.clone();
        request
    }
}

impl Drop for KeptHead {
    fn drop(&mut self) {
        let Some(mut head) = self.head.take() else { return };
        // Before the places are borrowed: an extension of the user's may do anything when dropped.
        head.headers.clear();
        head.uri = Uri::default();
        head.extensions = Extensions::new();
        if head.headers.capacity() > MOST_HEADERS {
            return;
        }
        // On a thread that ends, the place is dropped with the closure.
        let _ = PLACES.try_with(move |places| {
            let mut places = places.borrow_mut();
            if places.len() < MOST_PLACES {
                places.push(head);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(headers: usize) -> Parts {
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_static("/items/7");
        request.extensions_mut().insert("theirs");
        for _ in 0..headers {
            // To clone what is static allocates nothing.
            let value = HeaderValue::from_static("trailers");
            request.headers_mut().append(http::header::TE, value);
        }
        request.into_parts().0
    }

    fn allocations(parts: &Parts) -> u64 {
        allocation_counter::measure(|| drop(KeptHead::of(parts))).count_total
    }

    #[test]
    fn a_request_is_made_again_as_it_was() {
        let again = KeptHead::of(&parts(3)).with(());
        assert_eq!((again.method(), again.uri().path()), (&Method::GET, "/items/7"));
        assert_eq!(again.headers().get_all("te").iter().count(), 3);
        assert_eq!(again.extensions().get(), Some(&"theirs"));
    }

    #[test]
    fn the_next_head_of_a_thread_stands_in_the_place_of_the_last_and_shows_nothing_of_it() {
        drop(KeptHead::of(&parts(8)));
        let mut next = parts(2);
        next.extensions = Extensions::new();
        assert_eq!(allocations(&next), 0);
        let again = KeptHead::of(&next).with(());
        assert_eq!(again.headers().len(), 2);
        assert!(again.extensions().is_empty());
    }

    #[test]
    fn a_thread_keeps_few_places_and_no_long_lists() {
        let (few, many) = (parts(1), parts(MOST_HEADERS + 1));
        let heads: Vec<_> = (0..2 * MOST_PLACES).map(|_| KeptHead::of(&few)).collect();
        drop(heads);
        assert_eq!(PLACES.with_borrow(Vec::len), MOST_PLACES);
        let before = PLACES.with_borrow(Vec::len);
        drop(KeptHead::of(&many));
        assert_eq!(PLACES.with_borrow(Vec::len), before - 1);
    }
}
