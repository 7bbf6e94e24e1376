//! Lines over a plain stream.

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};

use super::Peer;

/// A longer line is echoed in pieces of this size.
const LONGEST: u64 = 64 << 10;

/// Echoes each line behind the server's name and Pod, `-` where there is none; greets before if asked to.
pub(super) async fn converse<S>(peer: &Peer, stream: S, greet: bool) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let pod = if peer.app.pod.is_empty() { "-" } else { &peer.app.pod };
    let prefix = format!("{} {pod} ", peer.app.name);
    let mut stream = BufReader::new(stream);
    if greet {
        stream.write_all(format!("{prefix}speaks first\n").as_bytes()).await?;
        stream.flush().await?;
    }
    let mut answer = prefix.clone().into_bytes();
    while (&mut stream).take(LONGEST).read_until(b'\n', &mut answer).await? > 0 {
        stream.write_all(&answer).await?;
        stream.flush().await?;
        answer.truncate(prefix.len());
    }
    stream.shutdown().await?;
    Ok(())
}
