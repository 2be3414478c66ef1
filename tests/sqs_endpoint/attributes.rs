//! Queues, their attributes and their tags.

use super::*;

#[test]
fn a_queue_has_the_defaults_of_sqs() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[]);
    let mut has = endpoint.client.attributes(&queue);
    for name in ["CreatedTimestamp", "LastModifiedTimestamp"] {
        let at: u64 = has[name].as_str().unwrap().parse().unwrap();
        assert!(at > 1_700_000_000, "{name}");
        has.as_object_mut().unwrap().remove(name);
    }
    let expected = json!({
        "ApproximateNumberOfMessages": "0",
        "ApproximateNumberOfMessagesDelayed": "0",
        "ApproximateNumberOfMessagesNotVisible": "0",
        "DelaySeconds": "0",
        "MaximumMessageSize": "1048576",
        "MessageRetentionPeriod": "345600",
        "QueueArn": "arn:aws:sqs:us-east-1:000000000000:orders",
        "ReceiveMessageWaitTimeSeconds": "0",
        "SqsManagedSseEnabled": "true",
        "VisibilityTimeout": "30",
    });
    assert_eq!(has, expected);
    let fifo = endpoint.client.attributes(&endpoint.fifo(&[]));
    for (name, value) in [
        ("FifoQueue", "true"),
        ("ContentBasedDeduplication", "false"),
        ("DeduplicationScope", "queue"),
        ("FifoThroughputLimit", "perQueue"),
    ] {
        assert_eq!(fifo[name], value, "{name}");
    }
    let none = endpoint
        .client
        .expect("GetQueueAttributes", &json!({ "QueueUrl": queue }));
    assert_eq!(none, json!({}));
}

#[test]
fn a_queue_is_created_again_if_it_is_the_same() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[("VisibilityTimeout", "5")]);
    assert_eq!(endpoint.standard(&[]), queue);
    assert_eq!(endpoint.standard(&[("VisibilityTimeout", "5")]), queue);
    let other = json!({ "QueueName": "orders", "Attributes": { "VisibilityTimeout": "6" } });
    let text = "A queue already exists with the same name and a different value for attribute VisibilityTimeout";
    endpoint.check_refused("CreateQueue", &other, "QueueNameExists", text);
    let error = endpoint.refusal("CreateQueue", &other);
    assert_eq!(error.query_error.as_deref(), Some("QueueAlreadyExists;Sender"));
    endpoint.client.delete_queue(&queue);
    // Its name is free at once.
    assert_eq!(endpoint.standard(&[("VisibilityTimeout", "6")]), queue);
}

#[test]
fn an_attribute_has_a_name_of_sqs_and_a_value_in_its_range() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[]);
    for (name, value) in [
        ("MessageRetentionPeriod", "59"),
        ("MessageRetentionPeriod", "1209601"),
        ("DelaySeconds", "901"),
        ("VisibilityTimeout", "43201"),
        ("VisibilityTimeout", "x"),
        ("MaximumMessageSize", "1023"),
        ("MaximumMessageSize", "1048577"),
        ("ReceiveMessageWaitTimeSeconds", "21"),
    ] {
        let text = format!("Invalid value for the parameter {name}.");
        let attributes = json!({ name: value });
        let create = json!({ "QueueName": "refused", "Attributes": attributes });
        endpoint.check_refused("CreateQueue", &create, "InvalidAttributeValue", &text);
        let set = json!({ "QueueUrl": queue, "Attributes": attributes });
        endpoint.check_refused("SetQueueAttributes", &set, "InvalidAttributeValue", &text);
    }
    let names = json!(["Foobar"]);
    for (action, body) in [
        (
            "GetQueueAttributes",
            json!({ "QueueUrl": queue, "AttributeNames": names }),
        ),
        (
            "ReceiveMessage",
            json!({ "QueueUrl": queue, "MessageSystemAttributeNames": names }),
        ),
        (
            "SetQueueAttributes",
            json!({ "QueueUrl": queue, "Attributes": { "Foobar": "1" } }),
        ),
        (
            "CreateQueue",
            json!({ "QueueName": "q", "Attributes": { "Foobar": "1" } }),
        ),
    ] {
        endpoint.check_refused(action, &body, "InvalidAttributeName", "Unknown Attribute Foobar.");
    }
}

#[test]
fn a_name_has_up_to_eighty_characters_and_says_whether_the_queue_is_fifo() {
    let endpoint = Endpoint::start();
    for name in ["a b", "a.b", "orders.fifo", &"x".repeat(81)] {
        let create = json!({ "QueueName": name });
        let text = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length";
        endpoint.check_refused("CreateQueue", &create, "InvalidParameterValue", text);
    }
    let create = json!({ "QueueName": "orders", "Attributes": { "FifoQueue": "true" } });
    endpoint.check_refused(
        "CreateQueue",
        &create,
        "InvalidParameterValue",
        "must end with .fifo suffix",
    );
    let create = json!({ "QueueName": "orders", "Attributes": { "FifoQueue": "false" } });
    endpoint.check_refused(
        "CreateQueue",
        &create,
        "InvalidAttributeName",
        "Unknown Attribute FifoQueue.",
    );
}

#[test]
fn queues_are_listed_by_prefix_and_page_by_page() {
    let endpoint = Endpoint::start();
    let urls: Vec<_> = (0..5)
        .map(|number| endpoint.client.create_queue(&format!("a-{number}"), &[]))
        .collect();
    endpoint.client.create_queue("b", &[]);
    let list = |more: Value| endpoint.client.expect("ListQueues", &more);
    assert_eq!(list(json!({ "QueueNamePrefix": "a-" })), json!({ "QueueUrls": urls }));
    assert_eq!(list(json!({ "QueueNamePrefix": "c" })), json!({}));
    let first = list(json!({ "QueueNamePrefix": "a-", "MaxResults": 3 }));
    assert_eq!(first["QueueUrls"], json!(urls[..3]));
    let token = first["NextToken"].clone();
    let second = list(json!({ "QueueNamePrefix": "a-", "MaxResults": 3, "NextToken": token }));
    assert_eq!(second, json!({ "QueueUrls": urls[3..] }));
    let text = "Must be an integer between 1 and 1000.";
    endpoint.check_refused(
        "ListQueues",
        &json!({ "MaxResults": 1001 }),
        "InvalidParameterValue",
        text,
    );
}

#[test]
fn a_queue_has_tags() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[]);
    let tags = || endpoint.client.expect("ListQueueTags", &json!({ "QueueUrl": queue }));
    endpoint
        .client
        .expect("TagQueue", &json!({ "QueueUrl": queue, "Tags": { "a": "1", "b": "" } }));
    assert_eq!(tags(), json!({ "Tags": { "a": "1", "b": "" } }));
    endpoint
        .client
        .expect("UntagQueue", &json!({ "QueueUrl": queue, "TagKeys": ["a", "missing"] }));
    assert_eq!(tags(), json!({ "Tags": { "b": "" } }));
}

#[test]
fn a_permission_is_shown_in_the_policy() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[]);
    let add = json!({
        "QueueUrl": queue, "Label": "partner", "AWSAccountIds": ["668614515564"], "Actions": ["ReceiveMessage"],
    });
    endpoint.client.expect("AddPermission", &add);
    let policy = || endpoint.client.attributes(&queue).get("Policy").cloned();
    let shown: Value = serde_json::from_str(policy().unwrap().as_str().unwrap()).unwrap();
    assert_eq!(
        shown["Statement"][0]["Principal"]["AWS"],
        "arn:aws:iam::668614515564:root"
    );
    assert_eq!(shown["Statement"][0]["Action"], "SQS:ReceiveMessage");
    endpoint.check_refused(
        "AddPermission",
        &add,
        "InvalidParameterValue",
        "Reason: Already exists.",
    );
    let remove = json!({ "QueueUrl": queue, "Label": "partner" });
    endpoint.client.expect("RemovePermission", &remove);
    assert_eq!(policy(), None);
    endpoint.check_refused(
        "RemovePermission",
        &remove,
        "InvalidParameterValue",
        "Reason: can't find label.",
    );
}
