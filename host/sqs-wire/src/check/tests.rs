//! Claims about the rules for requests, with the answers that AWS gave.

use std::collections::BTreeMap;

use super::*;
use crate::input::{
    ChangeMessageVisibilityInput, DeleteMessageBatchEntry, DeleteMessageBatchInput, ListMessageMoveTasksInput,
    SendMessageBatchEntry, TagQueueInput,
};

fn refusal(request: SqsRequest) -> (&'static str, String) {
    let error = check(&request).unwrap_err();
    drop(request);
    (error.code().query_code(), error.message().to_owned())
}

fn deletes(ids: &[&str]) -> SqsRequest {
    let entries = ids.iter().map(|id| DeleteMessageBatchEntry {
        id: (*id).to_owned(),
        receipt_handle: "r".to_owned(),
    });
    SqsRequest::DeleteMessageBatch(DeleteMessageBatchInput {
        queue_url: "q".to_owned(),
        entries: entries.collect(),
    })
}

fn sends(bodies: &[&str]) -> SqsRequest {
    let entries = bodies.iter().enumerate().map(|(number, body)| SendMessageBatchEntry {
        id: number.to_string(),
        message_body: (*body).to_owned(),
        ..SendMessageBatchEntry::default()
    });
    SqsRequest::SendMessageBatch(SendMessageBatchInput {
        queue_url: "q".to_owned(),
        entries: entries.collect(),
    })
}

#[test]
fn a_batch_has_one_to_ten_entries() {
    assert_eq!(
        refusal(deletes(&[])),
        (
            "AWS.SimpleQueueService.EmptyBatchRequest",
            "There should be at least one DeleteMessageBatchRequestEntry in the request.".to_owned()
        )
    );
    let twenty: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    let twenty: Vec<_> = twenty.iter().map(String::as_str).collect();
    assert_eq!(
        refusal(deletes(&twenty)),
        (
            "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
            "Maximum number of entries per request are 10. You have sent 20.".to_owned()
        )
    );
    assert_eq!(check(&deletes(twenty.get(..10).unwrap())), Ok(()));
}

#[test]
fn the_ids_of_a_batch_are_ids_and_distinct() {
    let text = "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 \
                letters long.";
    for id in ["", "invalid:id", &"x".repeat(81)] {
        let refused = ("AWS.SimpleQueueService.InvalidBatchEntryId", text.to_owned());
        assert_eq!(refusal(deletes(&[id])), refused);
    }
    assert_eq!(check(&deletes(&["a", &"x".repeat(80)])), Ok(()));
    assert_eq!(
        refusal(deletes(&["a", "a"])),
        (
            "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
            "Id a repeated.".to_owned()
        )
    );
}

#[test]
fn a_batch_of_messages_has_up_to_one_mebibyte() {
    let half = "x".repeat(524_288);
    assert_eq!(check(&sends(&[&half, &half])), Ok(()));
    assert_eq!(
        refusal(sends(&[&half, &half, "x"])),
        (
            "AWS.SimpleQueueService.BatchRequestTooLong",
            "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes.".to_owned()
        )
    );
}

#[test]
fn a_visibility_timeout_has_up_to_twelve_hours() {
    let change = |seconds| {
        SqsRequest::ChangeMessageVisibility(ChangeMessageVisibilityInput {
            visibility_timeout: Some(seconds),
            ..ChangeMessageVisibilityInput::default()
        })
    };
    assert_eq!(check(&change(0)), Ok(()));
    assert_eq!(check(&change(43_200)), Ok(()));
    for seconds in [-1, 43_201] {
        let text = format!(
            "Value {seconds} for parameter VisibilityTimeout is invalid. Reason: Must be >= 0 and <= 43200, if provided."
        );
        assert_eq!(refusal(change(seconds)), ("InvalidParameterValue", text));
    }
}

#[test]
fn a_permission_names_actions_and_accounts() {
    let grant = |label: &str, account: &str, action: &str| {
        SqsRequest::AddPermission(AddPermissionInput {
            queue_url: "q".to_owned(),
            label: label.to_owned(),
            aws_account_ids: vec![account.to_owned()],
            actions: vec![action.to_owned()],
        })
    };
    assert_eq!(check(&grant("a", "668614515564", "ReceiveMessage")), Ok(()));
    assert_eq!(check(&grant("a", "668614515564", "*")), Ok(()));
    assert_eq!(refusal(grant("a b", "668614515564", "*")).0, "InvalidParameterValue");
    for (action, reason) in [
        (
            "Foo",
            "Please refer to the appropriate WSDL for a list of valid actions.",
        ),
        (
            "AddPermission",
            "Only the queue owner is allowed to invoke this action.",
        ),
    ] {
        let text = format!("Value SQS:{action} for parameter ActionName is invalid. Reason: {reason}");
        assert_eq!(refusal(grant("a", "668614515564", action)).1, text);
    }
    assert_eq!(
        refusal(grant("a", "foo", "*")).1,
        "Value [foo] for parameter PrincipalId is invalid. Reason: Unable to verify."
    );
}

#[test]
fn a_permission_names_up_to_seven_actions() {
    let grant = |count| {
        SqsRequest::AddPermission(AddPermissionInput {
            queue_url: "q".to_owned(),
            label: "a".to_owned(),
            aws_account_ids: vec!["668614515564".to_owned()],
            actions: vec!["*".to_owned(); count],
        })
    };
    assert_eq!(check(&grant(7)), Ok(()));
    let text = "8 Actions were found, maximum allowed is 7.";
    assert_eq!(refusal(grant(8)), ("OverLimit", text.to_owned()));
}

#[test]
fn a_page_has_one_to_a_thousand_results_and_a_list_of_tasks_one_to_ten() {
    assert_eq!(page_size(None), Ok(1000));
    assert_eq!(page_size(Some(2)), Ok(2));
    assert!(page_size(Some(0)).is_err() && page_size(Some(1001)).is_err() && page_size(Some(-1)).is_err());
    let tasks = |max_results| {
        listed_tasks(&ListMessageMoveTasksInput {
            max_results,
            ..ListMessageMoveTasksInput::default()
        })
    };
    assert_eq!(tasks(None), Ok(1));
    assert_eq!(tasks(Some(10)), Ok(10));
    assert!(tasks(Some(11)).is_err());
}

#[test]
fn tags_have_keys_and_a_bounded_number() {
    let tagged = |tags: BTreeMap<String, String>| {
        SqsRequest::TagQueue(TagQueueInput {
            queue_url: "q".to_owned(),
            tags,
        })
    };
    let numbered = |count: u32| (0..count).map(|number| (number.to_string(), String::new())).collect();
    assert_eq!(check(&tagged(numbered(50))), Ok(()));
    assert!(check(&tagged(numbered(51))).is_err());
    assert!(check(&tagged([(String::new(), String::new())].into())).is_err());
    assert!(check(&tagged([("k".repeat(129), String::new())].into())).is_err());
    assert!(check(&tagged([("k".to_owned(), "v".repeat(257))].into())).is_err());
}

#[test]
fn a_move_task_has_arns_and_a_rate() {
    let start = |source: &str, rate| {
        SqsRequest::StartMessageMoveTask(StartMessageMoveTaskInput {
            source_arn: source.to_owned(),
            destination_arn: None,
            max_number_of_messages_per_second: rate,
        })
    };
    let arn = "arn:aws:sqs:us-east-1:000000000000:q";
    assert_eq!(check(&start(arn, Some(500))), Ok(()));
    assert!(check(&start(arn, Some(501))).is_err());
    assert!(check(&start(arn, Some(0))).is_err());
    assert!(check(&start("q", None)).is_err());
}
