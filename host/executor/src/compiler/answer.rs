//! The answer on the child's standard output: the length of a head (4 bytes, little-endian), the head (JSON), the artifact, and the
//! compiled functions.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use bytes::Bytes;

use super::{Compiled, Facts, MAX_FUNCTIONS_BYTES, Refusal};

/// The longest head that is read, in bytes (1 MiB).
const MAX_HEAD_BYTES: u32 = 1024 * 1024;

#[derive(Debug, Serialize, Deserialize)]
struct AnswerHead {
    verdict: Result<Facts, Refusal>,
    /// The number of bytes after the head.
    artifact_bytes: u64,
    /// The number of bytes after the artifact.
    functions_bytes: u64,
    functions_taken: u64,
}

/// Writes an answer.
///
/// # Errors
///
/// The parent does not read.
pub(crate) fn write(output: &mut dyn Write, answer: Result<&Compiled, &Refusal>) -> io::Result<()> {
    let nothing = Bytes::new();
    let (verdict, artifact, functions) = match answer {
        Ok(compiled) => (Ok(compiled.facts.clone()), &compiled.artifact, &compiled.functions),
        Err(refusal) => (Err(refusal.clone()), &nothing, &nothing),
    };
    let bytes = |part: &Bytes| u64::try_from(part.len()).unwrap_or(u64::MAX);
    let head = serde_json::to_vec(&AnswerHead {
        verdict,
        artifact_bytes: bytes(artifact),
        functions_bytes: bytes(functions),
        functions_taken: answer.map_or(0, |compiled| compiled.functions_taken),
    })?;
    let length = u32::try_from(head.len()).map_err(io::Error::other)?;
    output.write_all(&length.to_le_bytes())?;
    output.write_all(&head)?;
    output.write_all(artifact)?;
    output.write_all(functions)?;
    output.flush()
}

/// Reads an answer to the end of the stream. Never holds more than `max_artifact_bytes`, the most bytes of functions, and a head.
///
/// # Errors
///
/// The stream is not one whole answer.
///
/// # Cancel safety
///
/// Not safe: the part that was read is lost.
pub(crate) async fn read(
    input: &mut (impl AsyncRead + Unpin),
    max_artifact_bytes: u64,
) -> io::Result<Result<Compiled, Refusal>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let length = input.read_u32_le().await?;
    if length > MAX_HEAD_BYTES {
        return Err(bad("its head is too long"));
    }
    let mut head = Vec::new();
    input.take(length.into()).read_to_end(&mut head).await?;
    let AnswerHead {
        verdict,
        artifact_bytes,
        functions_bytes,
        functions_taken,
    } = serde_json::from_slice(&head)?;
    let max_functions_bytes = u64::try_from(MAX_FUNCTIONS_BYTES).unwrap_or(u64::MAX);
    if artifact_bytes > max_artifact_bytes || functions_bytes > max_functions_bytes {
        return Err(bad("its artifact is too long"));
    }
    let artifact = part(input, artifact_bytes).await?;
    let functions = part(input, functions_bytes).await?;
    if input.read(&mut [0]).await? != 0 {
        return Err(bad("it goes on behind its end"));
    }
    Ok(verdict.map(|facts| Compiled {
        facts,
        artifact,
        functions,
        functions_taken,
    }))
}

/// Reads so many bytes.
async fn part(input: &mut (impl AsyncRead + Unpin), length: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    input.take(length).read_to_end(&mut bytes).await?;
    if u64::try_from(bytes.len()) != Ok(length) {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "its artifact is cut short",
        ));
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiler::Toolchain;

    fn answer() -> Vec<u8> {
        let facts = Facts {
            core_module: true,
            toolchain: Toolchain::default(),
        };
        let compiled = Compiled {
            facts,
            artifact: vec![7; 1000].into(),
            functions: vec![8; 100].into(),
            functions_taken: 9,
        };
        let mut written = Vec::new();
        write(&mut written, Ok(&compiled)).expect("memory can be written");
        written
    }

    #[tokio::test]
    async fn an_answer_is_read_as_it_was_written() {
        let compiled = read(&mut answer().as_slice(), 1000).await.unwrap().ok().unwrap();
        assert!(compiled.facts.core_module);
        assert_eq!(compiled.artifact, vec![7; 1000]);
        assert_eq!((compiled.functions, compiled.functions_taken), (vec![8; 100].into(), 9));
        let (mut written, refusal) = (Vec::new(), Refusal::Invalid("because".to_owned()));
        write(&mut written, Err(&refusal)).unwrap();
        let refused = read(&mut written.as_slice(), 0).await.unwrap();
        assert_eq!(refused.err(), Some(refusal));
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_or_too_short_is_none() {
        let whole = answer();
        for end in 0..whole.len() {
            assert!(read(&mut &whole[..end], 1000).await.is_err(), "{end}");
        }
        assert!(read(&mut whole.as_slice(), 999).await.is_err());
        let longer = [whole.as_slice(), b"x"].concat();
        assert!(read(&mut longer.as_slice(), 1000).await.is_err());
        assert!(read(&mut [0xff; 100].as_slice(), 1000).await.is_err());
    }
}
