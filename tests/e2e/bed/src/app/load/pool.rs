//! Kept connections to one address.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::app::client::Connection;

/// A fixed number of places for connections. The longest unused is taken first, so that all are opened and
/// all stay in use.
#[derive(Debug)]
pub(super) struct Pool {
    free: Semaphore,
    idle: Mutex<VecDeque<Option<Connection>>>,
}

/// A place, and its connection if it has one.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) connection: Option<Connection>,
}

impl Pool {
    pub(super) fn new(places: usize) -> Self {
        let idle = (0..places).map(|_| None).collect();
        Self { free: Semaphore::new(places), idle: Mutex::new(idle) }
    }

    /// Waits for a free place.
    pub(super) async fn take(&self) -> Place {
        if let Ok(permit) = self.free.acquire().await {
            permit.forget();
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        Place { connection: idle.pop_front().flatten() }
    }

    /// Gives a place back.
    pub(super) fn put_back(&self, place: Place) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push_back(place.connection);
        self.free.add_permits(1);
    }
}
