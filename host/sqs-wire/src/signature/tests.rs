//! Claims about signatures, most of them of requests that the signer of the AWS SDK signed.

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use proptest::prelude::*;

use super::*;

const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TARGET: &str = "AmazonSQS.SendMessage";

/// A request that can be changed after it was signed.
#[derive(Clone)]
struct TestRequest {
    method: &'static str,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn signed_at() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_mins(24_015_636)
}

impl TestRequest {
    /// Returns a request of the JSON protocol.
    fn json() -> Self {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            method: "POST",
            path: "/".to_owned(),
            query: String::new(),
            headers: vec![
                header("host", "sandhog:9324"),
                header("content-type", "application/x-amz-json-1.0"),
                header("x-amz-target", TARGET),
                header("user-agent", "test"),
            ],
            body: b"{\"MessageBody\":\"hello\"}".to_vec(),
        }
    }

    /// Returns a request of the query protocol with its parameters in the URL.
    fn get(query: &str) -> Self {
        Self {
            method: "GET",
            path: "/000000000000/orders.fifo".to_owned(),
            query: query.to_owned(),
            headers: vec![("host".to_owned(), "sandhog:9324".to_owned())],
            body: Vec::new(),
        }
    }

    /// Signs the request with the signer of the SDK.
    fn sign(mut self, service: &str, token: Option<&str>, expiry: Option<Duration>) -> Self {
        let credentials = Credentials::new(KEY, SECRET, token.map(str::to_owned), None, "test");
        let identity = credentials.into();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Double;
        if expiry.is_some() {
            settings.signature_location = SignatureLocation::QueryParams;
            settings.expires_in = expiry;
        }
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("eu-west-1")
            .name(service)
            .time(signed_at())
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let mark = if self.query.is_empty() { "" } else { "?" };
        let uri = format!("http://sandhog:9324{}{mark}{}", self.path, self.query);
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let signable = SignableRequest::new(self.method, uri, headers, SignableBody::Bytes(&self.body)).unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        let (headers, parameters) = instructions.into_parts();
        for header in headers {
            self.headers.push((header.name().to_owned(), header.value().to_owned()));
        }
        for (name, value) in parameters {
            let value = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC);
            let joint = if self.query.is_empty() { "" } else { "&" };
            self.query = format!("{}{joint}{name}={value}", self.query);
        }
        self
    }

    fn verify_at(&self, now: SystemTime) -> Result<VerifiedCaller, SqsError> {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let request = SignedRequest {
            method: self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers,
            body: &self.body,
        };
        verify(&request, now, |key| (key == KEY).then(|| SECRET.to_owned()))
    }

    fn refusal(&self, now: SystemTime) -> (&'static str, String) {
        let error = self.verify_at(now).unwrap_err();
        (error.code().query_code(), error.message().to_owned())
    }

    fn header(&mut self, name: &str) -> &mut String {
        let found = self
            .headers
            .iter_mut()
            .find(|(there, _)| there.eq_ignore_ascii_case(name));
        &mut found.unwrap().1
    }
}

fn caller() -> VerifiedCaller {
    VerifiedCaller {
        access_key: KEY.to_owned(),
        region: "eu-west-1".to_owned(),
    }
}

#[test]
fn what_the_sdk_signed_is_verified() {
    let requests = [
        TestRequest::json().sign("sqs", None, None),
        TestRequest::json().sign("sqs", Some("token"), None),
        TestRequest::get("Action=SendMessage&MessageBody=a%20b%2Fc&Version=2012-11-05").sign("sqs", None, None),
    ];
    for request in requests {
        assert_eq!(request.verify_at(signed_at()), Ok(caller()));
    }
}

#[test]
fn what_the_sdk_presigned_is_verified_until_its_time_is_over() {
    let hour = Duration::from_hours(1);
    for token in [None, Some("to/ken+=")] {
        let request = TestRequest::get("Action=ReceiveMessage&b=%7E").sign("sqs", token, Some(hour));
        assert!(request.query.contains("X-Amz-Signature"), "{}", request.query);
        assert_eq!(request.verify_at(signed_at() + hour), Ok(caller()));
        let late = signed_at() + hour + Duration::from_secs(1);
        assert_eq!(
            request.refusal(late),
            ("RequestExpired", "Request has expired.".to_owned())
        );
    }
}

/// Returns a request that botocore signed, with the signature in the header unless the URL has it.
fn of_botocore(method: &'static str, query: &str, signed: &str, signature: &str) -> TestRequest {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let scope = format!("AWS4-HMAC-SHA256 Credential={KEY}/20150830/us-east-1/sqs/aws4_request");
    let mut headers = vec![
        header("Host", "sandhog:9324"),
        header("Content-Type", "application/x-amz-json-1.0"),
        header("X-Amz-Target", TARGET),
        header("X-Amz-Date", "20150830T123600Z"),
        header(
            "Authorization",
            &format!("{scope}, SignedHeaders={signed}, Signature={signature}"),
        ),
    ];
    headers.retain(|(name, _)| name == "Authorization" || signed.contains(&name.to_lowercase()));
    if signature.is_empty() {
        headers.pop();
    }
    TestRequest {
        method,
        path: "/000000000000/q".to_owned(),
        query: query.to_owned(),
        headers,
        body: Vec::new(),
    }
}

#[test]
fn what_botocore_signed_is_verified() {
    let mut json = of_botocore(
        "POST",
        "",
        "content-type;host;x-amz-date;x-amz-target",
        "e93068c617262077bacba5d597b32456811b2beaf762816d65bf72445cc79226",
    );
    json.body = b"{\"MessageBody\":\"hello\"}".to_vec();
    let presigned = of_botocore(
        "GET",
        "Action=SendMessage&MessageBody=a%20b%2Fc~%C3%A9&Version=2012-11-05&X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fsqs%2Faws4_request&X-Amz-Date=20150830T123600Z\
         &X-Amz-Expires=600&X-Amz-SignedHeaders=host\
         &X-Amz-Signature=69222b9c602ecaabdddfde4e83f8aa349f587e057d0aef6ac7600757af32e774",
        "host",
        "",
    );
    // The URL has a plus where botocore signed a space.
    let plus = of_botocore(
        "GET",
        "Action=SendMessage&MessageBody=a+b%2Fc~%C3%A9%2B%26",
        "host;x-amz-date",
        "d5e3972257bb396f0340b34e9c1da06e8baa848f14ac0dc8fb94a19a95463806",
    );
    for mut request in [json, presigned, plus] {
        let verified = request.verify_at(signed_at()).unwrap();
        request.query.push_str("&MessageGroupId=a+b");
        assert_eq!(request.refusal(signed_at()).0, "SignatureDoesNotMatch");
        assert_eq!(
            (verified.access_key.as_str(), verified.region.as_str()),
            (KEY, "us-east-1")
        );
    }
}

#[test]
fn a_request_that_was_changed_is_refused() {
    let signed = TestRequest::json().sign("sqs", None, None);
    let changes: [fn(&mut TestRequest); 7] = [
        |request| request.method = "PUT",
        |request| request.path.push_str("000000000000/q"),
        |request| request.query.push_str("Action=PurgeQueue"),
        |request| request.body.push(b' '),
        |request| request.header("host").push('x'),
        |request| request.header("x-amz-target").push_str("Batch"),
        |request| request.header("authorization").push('0'),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut request = signed.clone();
        change(&mut request);
        let (code, text) = request.refusal(signed_at());
        assert_eq!(code, "SignatureDoesNotMatch", "{number}");
        assert!(
            text.starts_with("The request signature we calculated does not match"),
            "{text}"
        );
    }
    let mut request = signed;
    request.header("user-agent").push('x');
    assert_eq!(
        request.verify_at(signed_at()),
        Ok(caller()),
        "nobody signs the user agent"
    );
}

#[test]
fn clocks_may_be_a_quarter_of_an_hour_apart() {
    let request = TestRequest::json().sign("sqs", None, None);
    let quarter = Duration::from_mins(15);
    assert_eq!(request.verify_at(signed_at() + quarter), Ok(caller()));
    assert_eq!(request.verify_at(signed_at() - quarter), Ok(caller()));
    assert_eq!(
        request.refusal(signed_at() + quarter + Duration::from_secs(1)),
        (
            "SignatureDoesNotMatch",
            "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T125101Z - 15 min.)"
                .to_owned()
        )
    );
    assert_eq!(
        request.refusal(signed_at() - quarter - Duration::from_secs(1)).1,
        "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z (20150830T122059Z + 15 min.)"
    );
}

#[test]
fn a_key_that_is_not_known_is_told_from_a_signature_that_is_wrong() {
    let mut request = TestRequest::json().sign("sqs", None, None);
    let other = request.header("authorization").replace(KEY, "OTHER");
    *request.header("authorization") = other;
    assert_eq!(
        request.refusal(signed_at()),
        (
            "InvalidClientTokenId",
            "The security token included in the request is invalid.".to_owned()
        )
    );
}

#[test]
fn a_signature_for_another_service_is_refused() {
    let request = TestRequest::json().sign("sns", None, None);
    let (code, text) = request.refusal(signed_at());
    assert_eq!(code, "SignatureDoesNotMatch");
    assert!(text.contains("correct service: 'sqs'"), "{text}");
}

#[test]
fn a_request_that_claims_a_signature_is_told_from_one_that_has_none() {
    let claims = |query: &str, authorization: &str| {
        let headers = [("Authorization", authorization)];
        is_signed(&SignedRequest {
            method: "POST",
            path: "/",
            query,
            headers: &headers,
            body: b"",
        })
    };
    assert!(claims("", "AWS4-HMAC-SHA256 Credential=x"));
    assert!(claims("X-Amz-Signature=x", ""));
    assert!(!claims("Action=ListQueues", "Bearer x"));
}

#[test]
fn a_request_without_a_whole_signature_says_what_is_missing() {
    let missing = (
        "MissingAuthenticationToken",
        "Request is missing Authentication Token".to_owned(),
    );
    let mut request = TestRequest::json();
    assert_eq!(request.refusal(signed_at()), missing);
    request
        .headers
        .push(("Authorization".to_owned(), "Bearer secret".to_owned()));
    assert_eq!(request.refusal(signed_at()), missing);
    "AWS4-HMAC-SHA256 Credential=a/b/c/sqs/aws4_request".clone_into(request.header("authorization"));
    assert_eq!(
        request.refusal(signed_at()),
        (
            "IncompleteSignature",
            "Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter."
                .to_owned()
        )
    );
    let signed = TestRequest::json().sign("sqs", None, None);
    let mut request = signed.clone();
    request.headers.retain(|(name, _)| name != "x-amz-date");
    assert_eq!(request.refusal(signed_at()).0, "IncompleteSignature");
    let mut request = signed;
    let whole = request.header("authorization").clone();
    for changed in [whole.replace("/sqs/", "/"), whole.replace("/sqs/", "/sqs/sqs/")] {
        *request.header("authorization") = changed;
        let (code, text) = request.refusal(signed_at());
        assert_eq!(code, "IncompleteSignature");
        assert!(
            text.starts_with("Credential must have exactly 5 slash-delimited elements"),
            "{text}"
        );
    }
}

#[test]
fn a_header_that_says_what_is_done_must_be_signed() {
    let mut request = TestRequest::json();
    request.headers.retain(|(name, _)| name != "x-amz-target");
    let mut request = request.sign("sqs", None, None);
    request
        .headers
        .push(("X-Amz-Target".to_owned(), "AmazonSQS.PurgeQueue".to_owned()));
    let (code, text) = request.refusal(signed_at());
    assert_eq!(code, "SignatureDoesNotMatch");
    assert_eq!(
        text,
        "'x-amz-target' must be a 'SignedHeader' in the AWS Authorization."
    );
}

proptest! {
    #[test]
    fn any_header_and_any_url_are_verified_or_refused(
        authorization in ".{0,200}",
        parts in "AWS4-HMAC-SHA256 (Credential|Signature|SignedHeaders)=[a-z0-9/;,=]{0,60}",
        query in "(X-Amz-(Algorithm=AWS4-HMAC-SHA256|Date|Credential|Expires|SignedHeaders|Signature)=?[0-9TZa-z%/]{0,20}&?){0,7}",
        date in "([0-9]{8}T[0-9]{6}Z)|(.{0,20})",
    ) {
        for header in [Some(&authorization), Some(&parts), None] {
            let mut request = TestRequest::get(&query);
            request.headers.push(("x-amz-date".to_owned(), date.clone()));
            if let Some(header) = header {
                request.headers.push(("authorization".to_owned(), header.clone()));
            }
            prop_assert!(request.verify_at(signed_at()).is_err());
        }
    }

    #[test]
    fn any_presigned_url_is_verified_or_refused(
        scope in "[a-z0-9]{0,8}(/[a-z0-9]{0,8}){0,6}|K/20150830/r/sqs/aws4_request",
        date in "[0-9]{8}T[0-9]{6}Z|20150830T123600Z|.{0,20}",
        expiry in "[0-9]{0,25}|-1|x",
        signed in "host(;[a-z-]{0,10}){0,3}|.{0,10}",
        signature in "[0-9a-f]{0,64}",
    ) {
        let query = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={scope}&X-Amz-Date={date}&X-Amz-Expires={expiry}\
             &X-Amz-SignedHeaders={signed}&X-Amz-Signature={signature}"
        );
        prop_assert!(TestRequest::get(&query).verify_at(signed_at()).is_err());
    }
}
