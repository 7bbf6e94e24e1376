use tokio::sync::mpsc;

/// Says that a watch has listed its objects: once, however often it starts again. Who waits for all watches counts them.
#[derive(Debug)]
pub(super) struct Listed(Option<mpsc::Sender<()>>);

impl Listed {
    /// Says so to `heard`.
    pub(super) fn new(heard: mpsc::Sender<()>) -> Self {
        Self(Some(heard))
    }

    pub(super) fn say(&mut self) {
        if let Some(heard) = self.0.take() {
            let _ = heard.try_send(());
        }
    }
}
