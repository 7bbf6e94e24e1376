//! What is written, as a watch shows it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::watcher::{Config, Error, Event, watcher};

/// The longest that one write may take to come.
const LIMIT: Duration = Duration::from_mins(5);

pub(crate) struct Watch(BoxStream<'static, Result<Event<DynamicObject>, Error>>);

impl Watch {
    /// A watch that goes on when the API server ends it, as it does with watchers that are slow for a moment.
    pub(crate) async fn begin(api: Api<DynamicObject>) -> Result<Self> {
        let mut watch = Self(watcher(api, Config::default()).boxed());
        while !matches!(watch.event().await?, Event::InitDone) {}
        Ok(watch)
    }

    /// The next object that is written.
    pub(crate) async fn next(&mut self) -> Result<DynamicObject> {
        loop {
            // A list, too, shows what is new in between.
            if let Event::Apply(object) | Event::InitApply(object) = self.event().await? {
                return Ok(object);
            }
        }
    }

    async fn event(&mut self) -> Result<Event<DynamicObject>> {
        loop {
            let event = tokio::time::timeout(LIMIT, self.0.next()).await;
            match event.context("nothing was written for long")?.context("the watch ended")? {
                Ok(event) => return Ok(event),
                Err(error) => println!("  the watch starts again: {error}"),
            }
        }
    }
}
