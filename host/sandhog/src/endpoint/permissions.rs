//! `AddPermission` and `RemovePermission`: statements of the attribute `Policy`, which is kept and shown and has no effect.

use super::{ClientView, SqsEndpoint};
use sandhog_queue::Queue as _;
use sandhog_sqs_wire::{
    SqsError, SqsResponse, add_permission,
    input::{AddPermissionInput, RemovePermissionInput},
    remove_permission,
};

impl SqsEndpoint {
    pub(super) async fn add_permission(
        &self,
        input: AddPermissionInput,
        view: &ClientView,
    ) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        let arn = view.queue_arn(queue.queue.name().as_str())?;
        self.change(&queue, |wire| {
            let policy = add_permission(wire.settings.policy.as_deref(), &arn, &input)?;
            wire.settings.policy = Some(policy);
            Ok(())
        })
        .await?;
        Ok(SqsResponse::AddPermission)
    }

    pub(super) async fn remove_permission(&self, input: RemovePermissionInput) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        self.change(&queue, |wire| {
            wire.settings.policy = remove_permission(wire.settings.policy.as_deref(), &input.label)?;
            Ok(())
        })
        .await?;
        Ok(SqsResponse::RemovePermission)
    }
}
