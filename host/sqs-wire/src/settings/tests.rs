//! Claims about the settings that a client can give a queue, with the answers that AWS gave.

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    owned.collect()
}

fn create(name: &str, attributes: &[(&str, &str)]) -> Result<WantedQueue, SqsError> {
    WantedQueue::of(&CreateQueueInput {
        queue_name: Some(name.to_owned()),
        attributes: map(attributes),
        ..CreateQueueInput::default()
    })
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, SqsError>) -> (&'static str, String) {
    let error = answer.unwrap_err();
    (error.code().query_code(), error.message().to_owned())
}

#[test]
fn each_number_has_its_range() {
    let ranges = [
        ("DelaySeconds", 0, 900),
        ("MaximumMessageSize", 1024, 1_048_576),
        ("MessageRetentionPeriod", 60, 1_209_600),
        ("ReceiveMessageWaitTimeSeconds", 0, 20),
        ("VisibilityTimeout", 0, 43_200),
        ("KmsDataKeyReusePeriodSeconds", 60, 86_400),
    ];
    for (name, least, most) in ranges {
        for value in [least, most] {
            assert!(create("q", &[(name, &value.to_string())]).is_ok(), "{name} {value}");
        }
        for value in [
            (least - 1).to_string(),
            (most + 1).to_string(),
            "x".to_owned(),
            String::new(),
        ] {
            let refused = (
                "InvalidAttributeValue",
                format!("Invalid value for the parameter {name}."),
            );
            assert_eq!(refusal(create("q", &[(name, &value)])), refused);
        }
    }
}

#[test]
fn the_name_and_the_attribute_must_agree_on_fifo() {
    assert!(create("q.fifo", &[("FifoQueue", "true")]).is_ok());
    let standard = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length";
    for name in ["q.fifo", "", "a b"] {
        assert_eq!(
            refusal(create(name, &[])),
            ("InvalidParameterValue", standard.to_owned())
        );
    }
    assert!(
        refusal(create("q", &[("FifoQueue", "true")]))
            .1
            .contains("must end with .fifo suffix")
    );
    let unknown = ("InvalidAttributeName", "Unknown Attribute FifoQueue.".to_owned());
    assert_eq!(refusal(create("q", &[("FifoQueue", "false")])), unknown);
}

#[test]
fn a_queue_can_not_become_fifo_or_standard() {
    let set = |value, is_fifo| QueueSettingsPatch::of(&map(&[("FifoQueue", value)]), is_fifo);
    let unknown = ("InvalidAttributeName", "Unknown Attribute FifoQueue.".to_owned());
    assert_eq!(refusal(set("true", false)), unknown);
    assert_eq!(refusal(set("false", false)), unknown);
    assert_eq!(
        refusal(set("false", true)),
        (
            "InvalidAttributeValue",
            "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.".to_owned()
        )
    );
    assert_eq!(set("true", true), Ok(QueueSettingsPatch::default()));
}

#[test]
fn a_standard_queue_has_no_attributes_of_fifo() {
    let because = |text: &str| ("InvalidAttributeName", text.to_owned());
    assert_eq!(
        refusal(create("q", &[("ContentBasedDeduplication", "false")])),
        because("Unknown Attribute ContentBasedDeduplication.")
    );
    assert_eq!(
        refusal(create("q", &[("DeduplicationScope", "queue")])),
        because("You can specify the DeduplicationScope only when FifoQueue is set to true.")
    );
    assert_eq!(
        refusal(create("q", &[("FifoThroughputLimit", "perQueue")])),
        because("You can specify the FifoThroughputLimit only when FifoQueue is set to true.")
    );
}

#[test]
fn what_is_computed_or_unknown_can_not_be_set() {
    for name in [
        "QueueArn",
        "CreatedTimestamp",
        "ApproximateNumberOfMessages",
        "Foo",
        "All",
    ] {
        let unknown = ("InvalidAttributeName", format!("Unknown Attribute {name}."));
        assert_eq!(refusal(create("q", &[(name, "1")])), unknown);
    }
}

#[test]
fn a_limit_for_each_group_needs_deduplication_in_each_group() {
    let fifo = ("FifoQueue", "true");
    let limit = ("FifoThroughputLimit", "perMessageGroupId");
    assert_eq!(refusal(create("q.fifo", &[fifo, limit])).0, "InvalidAttributeValue");
    assert!(create("q.fifo", &[fifo, limit, ("DeduplicationScope", "messageGroup")]).is_ok());
    assert!(create("q.fifo", &[fifo, ("DeduplicationScope", "messageGroup")]).is_ok());
}

#[test]
fn two_kinds_of_encryption_exclude_each_other() {
    let both = [("KmsMasterKeyId", "key"), ("SqsManagedSseEnabled", "true")];
    let (code, text) = refusal(QueueSettingsPatch::of(&map(&both), false));
    assert_eq!(code, "InvalidAttributeName");
    assert!(
        text.starts_with("You can use one type of server-side encryption (SSE) at one time."),
        "{text}"
    );
}

#[test]
fn an_empty_policy_takes_the_policy_away() {
    let empty = [
        ("Policy", ""),
        ("RedrivePolicy", ""),
        ("RedriveAllowPolicy", ""),
        ("KmsMasterKeyId", ""),
    ];
    let patch = QueueSettingsPatch::of(&map(&empty), false).unwrap();
    assert_eq!(patch.policy, SettingChange::Clear);
    assert_eq!(patch.redrive, SettingChange::Clear);
    assert_eq!(patch.redrive_allow, SettingChange::Clear);
    assert_eq!(patch.kms_master_key, SettingChange::Clear);
    assert_eq!(refusal(create("q", &[("Policy", "[]")])).0, "InvalidAttributeValue");
}
