//! The access policy of a queue, as `AddPermission` and `RemovePermission` change it.
//!
//! A statement that a client wrote itself stays as it is. Nothing here says whether a policy allows anything.

use serde_json::{Map, Value, json};

use crate::{
    address::QueueArn,
    error::{SqsError, SqsErrorCode},
    input::AddPermissionInput,
};

/// The most statements of a policy.
const MAX_STATEMENTS: usize = 20;

fn read(policy: Option<&str>) -> Result<Map<String, Value>, SqsError> {
    let Some(text) = policy else {
        return Ok(Map::new());
    };
    serde_json::from_str(text).map_err(|_| SqsError::invalid_attribute_value("Policy"))
}

fn statements(policy: &Map<String, Value>) -> Vec<Value> {
    match policy.get("Statement") {
        Some(Value::Array(statements)) => statements.clone(),
        // A policy may have one statement alone.
        Some(statement) => vec![statement.clone()],
        None => Vec::new(),
    }
}

fn has_label(statement: &Value, label: &str) -> bool {
    statement.get("Sid").and_then(Value::as_str) == Some(label)
}

/// Returns one value alone, and several as a list, as AWS writes them.
fn one_or_list(mut values: Vec<String>) -> Value {
    match (values.len(), values.pop()) {
        (1, Some(value)) => Value::String(value),
        (_, last) => values.into_iter().chain(last).map(Value::String).collect(),
    }
}

/// Returns the policy with the permission that `input` describes.
///
/// # Errors
///
/// `InvalidParameterValue` if the label is taken, `OverLimit` if the policy has 20 statements, `InvalidAttributeValue` if
/// the policy is no JSON object.
pub fn add_permission(policy: Option<&str>, arn: &QueueArn, input: &AddPermissionInput) -> Result<String, SqsError> {
    let mut members = read(policy)?;
    let mut all = statements(&members);
    if all.iter().any(|statement| has_label(statement, &input.label)) {
        return Err(SqsError::label_exists(&input.label));
    }
    if all.len() >= MAX_STATEMENTS {
        return Err(SqsError::new(
            SqsErrorCode::OverLimit,
            format!(
                "{} statements were found, maximum allowed is {MAX_STATEMENTS}.",
                all.len() + 1
            ),
        ));
    }
    let partition = &arn.partition;
    let accounts = input.aws_account_ids.iter();
    let accounts = accounts
        .map(|account| format!("arn:{partition}:iam::{account}:root"))
        .collect();
    let actions = input.actions.iter().map(|action| format!("SQS:{action}")).collect();
    let arn = arn.to_string();
    all.push(json!({
        "Sid": input.label,
        "Effect": "Allow",
        "Principal": {"AWS": one_or_list(accounts)},
        "Action": one_or_list(actions),
        "Resource": arn,
    }));
    members.entry("Version").or_insert_with(|| json!("2008-10-17"));
    members
        .entry("Id")
        .or_insert_with(|| json!(format!("{arn}/SQSDefaultPolicy")));
    members.insert("Statement".to_owned(), Value::Array(all));
    Ok(Value::Object(members).to_string())
}

/// Returns the policy without the permission of this label, or nothing if the policy had no other statement.
///
/// # Errors
///
/// `InvalidParameterValue` if no permission has the label, `InvalidAttributeValue` if the policy is no JSON object.
pub fn remove_permission(policy: Option<&str>, label: &str) -> Result<Option<String>, SqsError> {
    let mut members = read(policy)?;
    let all = statements(&members);
    let count = all.len();
    let kept: Vec<_> = all
        .into_iter()
        .filter(|statement| !has_label(statement, label))
        .collect();
    if kept.len() == count {
        return Err(SqsError::label_not_found(label));
    }
    if kept.is_empty() {
        return Ok(None);
    }
    members.insert("Statement".to_owned(), Value::Array(kept));
    Ok(Some(Value::Object(members).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arn() -> QueueArn {
        QueueArn::parse("arn:aws:sqs:us-east-1:111111111111:q").unwrap()
    }

    fn grant(label: &str, accounts: &[&str]) -> AddPermissionInput {
        AddPermissionInput {
            queue_url: "q".to_owned(),
            label: label.to_owned(),
            aws_account_ids: accounts.iter().map(|account| (*account).to_owned()).collect(),
            actions: vec!["ReceiveMessage".to_owned()],
        }
    }

    #[test]
    fn permissions_come_and_go_as_on_aws() {
        let first = grant("crossaccountpermission", &["668614515564", "111111111111"]);
        let policy = add_permission(None, &arn(), &first).unwrap();
        let expected = json!({
            "Version": "2008-10-17",
            "Id": "arn:aws:sqs:us-east-1:111111111111:q/SQSDefaultPolicy",
            "Statement": [{
                "Sid": "crossaccountpermission",
                "Effect": "Allow",
                "Principal": {"AWS": ["arn:aws:iam::668614515564:root", "arn:aws:iam::111111111111:root"]},
                "Action": "SQS:ReceiveMessage",
                "Resource": "arn:aws:sqs:us-east-1:111111111111:q",
            }],
        });
        assert_eq!(serde_json::from_str::<Value>(&policy).unwrap(), expected);
        let taken = add_permission(Some(&policy), &arn(), &first).unwrap_err();
        assert_eq!(
            taken.message(),
            "Value crossaccountpermission for parameter Label is invalid. Reason: Already exists."
        );

        let second = grant("crossaccountpermission2", &["111111111111"]);
        let both = add_permission(Some(&policy), &arn(), &second).unwrap();
        let one = remove_permission(Some(&both), "crossaccountpermission")
            .unwrap()
            .unwrap();
        let one: Value = serde_json::from_str(&one).unwrap();
        assert_eq!(one["Statement"][0]["Sid"], "crossaccountpermission2");
        assert_eq!(
            one["Statement"][0]["Principal"]["AWS"],
            "arn:aws:iam::111111111111:root"
        );
        assert_eq!(remove_permission(Some(&policy), "crossaccountpermission"), Ok(None));
        assert_eq!(
            remove_permission(None, "crossaccountpermission2")
                .unwrap_err()
                .message(),
            "Value crossaccountpermission2 for parameter Label is invalid. Reason: can't find label."
        );
    }

    #[test]
    fn a_policy_has_up_to_twenty_statements() {
        let mut policy = None;
        for number in 0..20 {
            let input = grant(&number.to_string(), &["111111111111"]);
            policy = Some(add_permission(policy.as_deref(), &arn(), &input).unwrap());
        }
        let error = add_permission(policy.as_deref(), &arn(), &grant("x", &["111111111111"])).unwrap_err();
        assert_eq!(error.code(), SqsErrorCode::OverLimit);
    }

    #[test]
    fn a_policy_that_is_no_object_is_left_alone() {
        assert!(add_permission(Some("[]"), &arn(), &grant("a", &["111111111111"])).is_err());
        assert!(remove_permission(Some("x"), "a").is_err());
    }
}
