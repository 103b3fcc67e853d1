//! Who waits, in which order: linked lists in one vector, so that leaving from the middle costs
//! the same as leaving from an end, and a vector that has grown is used again.

use std::task::Waker;

/// The waiters of one limit, in a list for each class. A key is owned by one waiter, who gives it
/// back with [`forget`](Self::forget).
#[derive(Debug)]
pub(crate) struct Waiters<T, const CLASSES: usize> {
    nodes: Vec<Node<T>>,
    free: Vec<usize>,
    lists: [List; CLASSES],
}

#[derive(Debug)]
struct Node<T> {
    value: T,
    waker: Option<Waker>,
    class: usize,
    before: Option<usize>,
    after: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct List {
    first: Option<usize>,
    last: Option<usize>,
    len: u32,
}

impl<T, const CLASSES: usize> Waiters<T, CLASSES> {
    pub(crate) const fn new() -> Self {
        let empty = List { first: None, last: None, len: 0 };
        Self { nodes: Vec::new(), free: Vec::new(), lists: [empty; CLASSES] }
    }

    /// Puts `value` behind all others of its class.
    pub(crate) fn push(&mut self, class: usize, value: T) -> usize {
        let before = self.lists[class].last;
        let node = Node { value, waker: None, class, before, after: None };
        let key = if let Some(key) = self.free.pop() {
            self.nodes[key] = node;
            key
        } else {
            self.nodes.push(node);
            self.nodes.len() - 1
        };
        match before {
            Some(before) => self.nodes[before].after = Some(key),
            None => self.lists[class].first = Some(key),
        }
        self.lists[class].last = Some(key);
        self.lists[class].len += 1;
        key
    }

    /// Takes a waiter out of its list; its key stays valid.
    pub(crate) fn unlink(&mut self, key: usize) {
        let Node { class, before, after, .. } = self.nodes[key];
        match before {
            Some(before) => self.nodes[before].after = after,
            None => self.lists[class].first = after,
        }
        match after {
            Some(after) => self.nodes[after].before = before,
            None => self.lists[class].last = before,
        }
        self.lists[class].len -= 1;
    }

    /// Makes the key of a waiter that is in no list free for another.
    pub(crate) fn forget(&mut self, key: usize) -> Option<Waker> {
        self.free.push(key);
        self.nodes[key].waker.take()
    }

    /// How many wait in this class.
    pub(crate) fn len(&self, class: usize) -> u32 {
        self.lists[class].len
    }

    pub(crate) fn first(&self, class: usize) -> Option<usize> {
        self.lists[class].first
    }

    pub(crate) fn last(&self, class: usize) -> Option<usize> {
        self.lists[class].last
    }

    pub(crate) fn get(&self, key: usize) -> &T {
        &self.nodes[key].value
    }

    pub(crate) fn get_mut(&mut self, key: usize) -> &mut T {
        &mut self.nodes[key].value
    }

    /// Whom to wake for `key` from now on. Gives the one before back, to be dropped when nothing
    /// is locked.
    pub(crate) fn set_waker(&mut self, key: usize, waker: Waker) -> Option<Waker> {
        self.nodes[key].waker.replace(waker)
    }

    pub(crate) fn take_waker(&mut self, key: usize) -> Option<Waker> {
        self.nodes[key].waker.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_order(waiters: &Waiters<u32, 2>, class: usize) -> Vec<u32> {
        let mut next = waiters.first(class);
        std::iter::from_fn(|| {
            let key = next?;
            next = waiters.nodes[key].after;
            Some(*waiters.get(key))
        })
        .collect()
    }

    #[test]
    fn leaving_from_either_end_or_the_middle_keeps_the_order_of_the_others() {
        for gone in 0..3 {
            let mut waiters = Waiters::<u32, 2>::new();
            let keys: Vec<_> = (0..3).map(|n| waiters.push(1, n)).collect();
            waiters.push(0, 9);
            waiters.unlink(keys[gone]);
            waiters.forget(keys[gone]);
            waiters.push(1, 7);
            let mut expected = vec![0, 1, 2, 7];
            expected.remove(gone);
            assert_eq!(in_order(&waiters, 1), expected);
            assert_eq!(in_order(&waiters, 0), [9]);
            assert_eq!((waiters.len(0), waiters.len(1)), (1, 3));
            assert_eq!(waiters.nodes.len(), 4, "a free place is used again");
            assert_eq!(waiters.last(1).map(|key| *waiters.get(key)), Some(7));
        }
    }
}
