//! Snapshot metadata: which blocks of a snapshot hold data, and which differ between two.

use std::sync::Arc;

use grpc::{Code, Failure, Messages, Status};

use super::backend::Ranges;
use super::driver::Driver;
use super::{Service, block};
use crate::contract::v1::*;

/// How many ranges a message has where the caller does not say.
const MOST: usize = 256;

impl SnapshotMetadata for Service {
    async fn get_metadata_allocated(
        &self,
        request: GetMetadataAllocatedRequest,
    ) -> Result<Messages<GetMetadataAllocatedResponse>, Status> {
        let asked = Asked::new(request.snapshot_id, None, request.starting_offset, request.max_results);
        stream(self, asked, |capacity, ranges| GetMetadataAllocatedResponse {
            block_metadata_type: BlockMetadataType::VariableLength.into(),
            volume_capacity_bytes: capacity,
            block_metadata: ranges,
        })
        .await
    }

    async fn get_metadata_delta(
        &self,
        request: GetMetadataDeltaRequest,
    ) -> Result<Messages<GetMetadataDeltaResponse>, Status> {
        let base = Some(request.base_snapshot_id);
        let asked =
            Asked::new(request.target_snapshot_id, base, request.starting_offset, request.max_results);
        stream(self, asked, |capacity, ranges| GetMetadataDeltaResponse {
            block_metadata_type: BlockMetadataType::VariableLength.into(),
            volume_capacity_bytes: capacity,
            block_metadata: ranges,
        })
        .await
    }
}

#[derive(Clone)]
struct Asked {
    snapshot: String,
    base: Option<String>,
    offset: u64,
    most: usize,
}

impl Asked {
    fn new(snapshot: String, base: Option<String>, offset: i64, most: i32) -> Asked {
        let most = usize::try_from(most).ok().filter(|&most| most > 0).unwrap_or(MOST).min(4 * MOST);
        Asked { snapshot, base, offset: u64::try_from(offset).unwrap_or(0), most }
    }

    /// The next ranges, and the volume's capacity.
    fn ranges(&self, driver: &Driver) -> Result<(u64, Ranges), Failure> {
        let _stays = driver.turns.together(&self.snapshot)?;
        let (pool, kept) = driver.snapshot(&self.snapshot)?;
        let volume = &kept.record.volume;
        if self.offset > 0 && self.offset >= volume.capacity {
            let message =
                format!("{} is beyond the volume, which has {} bytes", self.offset, volume.capacity);
            return Err(Failure {
                field: Some("starting_offset".into()),
                ..Failure::new(Code::OutOfRange, message)
            });
        }
        if !volume.block {
            let message =
                format!("snapshot {} is of a file system, and has no blocks to tell", self.snapshot);
            return Err(Failure {
                field: Some("snapshot_id".into()),
                ..Failure::invalid("snapshot_id", message)
            });
        }
        let backend = pool.backend_of(volume)?;
        let ranges = match &self.base {
            None => backend.ranges(&kept.place, self.offset, self.most)?,
            Some(base) => {
                let _stays = driver.turns.together(base)?;
                let (of, base) = driver.snapshot(base)?;
                if of.name != pool.name || base.record.volume.id != volume.id {
                    let message = format!("is of another volume than {}", self.snapshot);
                    return Err(Failure::invalid("base_snapshot_id", message));
                }
                backend.changes(&base.place, &kept.place, self.offset, self.most)?
            }
        };
        Ok((volume.capacity, ranges))
    }
}

/// A stream of ranges, each message as large as the caller likes.
async fn stream<A: Send + 'static>(
    service: &Service,
    mut asked: Asked,
    message: impl Fn(i64, Vec<BlockMetadata>) -> A + Send + 'static,
) -> Result<Messages<A>, Status> {
    let (sender, messages) = Messages::channel(1);
    let service = Service(Arc::clone(&service.0));
    // What is wrong with the request is its answer, not the stream's end.
    let mut next = Some(
        block(&service, {
            let asked = Asked { snapshot: asked.snapshot.clone(), base: asked.base.clone(), ..asked };
            move |driver| asked.ranges(driver)
        })
        .await?,
    );
    tokio::spawn(async move {
        while let Some((capacity, ranges)) = next.take() {
            let told = ranges.found.iter().map(|range| BlockMetadata {
                byte_offset: i64::try_from(range.offset).unwrap_or(i64::MAX),
                size_bytes: i64::try_from(range.length).unwrap_or(i64::MAX),
            });
            // One without ranges says that it goes on, and finds out whether somebody still listens.
            let capacity = i64::try_from(capacity).unwrap_or(i64::MAX);
            if sender.send(message(capacity, told.collect())).await.is_err() {
                return;
            }
            let Some(after) = ranges.next else { return };
            asked.offset = after;
            let again = asked.clone();
            match block(&service, move |driver| again.ranges(driver)).await {
                Ok(ranges) => next = Some(ranges),
                Err(error) => return sender.fail(error.into()).await,
            }
        }
    });
    Ok(messages)
}
