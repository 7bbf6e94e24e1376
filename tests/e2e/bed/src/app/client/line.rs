//! Lines over TCP or TLS.

use std::fmt;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::dial::Stream;
use super::{CallError, Reply};
use crate::app::Answer;

/// The longest line that is taken for an answer.
const LONGEST: u64 = 64 << 10;

/// A conversation in lines.
pub(super) struct Line {
    stream: BufReader<Box<dyn Stream>>,
    protocol: &'static str,
    sent: u64,
}

impl fmt::Debug for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Line").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl Line {
    pub(super) fn new(stream: Box<dyn Stream>, protocol: &'static str) -> Self {
        Self { stream: BufReader::new(stream), protocol, sent: 0 }
    }

    /// A conversation that the server opens by naming itself.
    pub(super) async fn greeted(stream: Box<dyn Stream>) -> Result<Self, CallError> {
        let mut line = Self::new(stream, "tcp-server-first");
        line.read("before its greeting").await?;
        Ok(line)
    }

    pub(super) async fn exchange(&mut self, messages: u32) -> Result<Reply, CallError> {
        let mut answer = None;
        for _ in 0..messages.max(1) {
            answer = Some(self.turn().await?);
        }
        Ok(Reply { success: true, protocol: self.protocol, answer, ..Reply::default() })
    }

    async fn turn(&mut self) -> Result<Answer, CallError> {
        self.sent += 1;
        let sent = format!("ping {}", self.sent);
        let written = self.stream.write_all(format!("{sent}\n").as_bytes()).await;
        written.map_err(|error| CallError::transport(&error))?;
        self.stream.flush().await.map_err(|error| CallError::transport(&error))?;
        let (answer, echoed) = self.read("before its answer").await?;
        if echoed == sent { Ok(answer) } else { Err(CallError::Unexpected(echoed)) }
    }

    /// Reads one line, and who wrote it.
    async fn read(&mut self, when: &'static str) -> Result<(Answer, String), CallError> {
        let mut line = String::new();
        let read = (&mut self.stream).take(LONGEST).read_line(&mut line).await;
        if read.map_err(|error| CallError::transport(&error))? == 0 {
            return Err(CallError::Closed(when));
        }
        let (name, pod, text) = split(line.trim_end()).ok_or_else(|| CallError::Unexpected(line.clone()))?;
        let answer = Answer { name, pod, protocol: "tcp".to_owned(), ..Answer::default() };
        Ok((answer, text))
    }
}

/// `NAME POD TEXT`; a server outside a Pod writes `-` for it.
fn split(line: &str) -> Option<(String, String, String)> {
    let (name, rest) = line.split_once(' ')?;
    let (pod, text) = rest.split_once(' ')?;
    let pod = if pod == "-" { "" } else { pod };
    Some((name.to_owned(), pod.to_owned(), text.to_owned()))
}
