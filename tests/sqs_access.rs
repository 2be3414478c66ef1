//! Who may speak to the SQS endpoint: whoever signs with a secret of the host may do what its key has a right to, and no web page may do
//! anything.

use std::fs;

use aws_sdk_sqs::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    error::{ProvideErrorMetadata, SdkError},
};
use harness::{
    host::{Host, Place},
    sqs_client::SqsClient,
};
use tokio::runtime::Runtime;

const OWNER: &str = "the-secret-of-the-owner";
const APPLICATION: &str = "the-secret-of-the-application";

/// A host with a secret, and a key that may send to and receive from the queues `app-..`.
fn host() -> (Place, Host) {
    let place = Place::new();
    fs::write(place.path().join("owner"), OWNER).unwrap();
    fs::write(place.path().join("app"), format!("{APPLICATION}\n")).unwrap();
    place.configure(
        "secret-file = \"owner\"\n[queues.declared]\n[keys.app]\nsecret-file = \"app\"\nrights = [\"send\", \"receive\"]\nqueues = [\"app-*\"]\n",
    );
    let host = place.start();
    (place, host)
}

fn client(host: &Host, key: &str, secret: &str) -> Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(&host.url)
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new(key, secret, None, None, "test"))
        .build();
    Client::from_conf(config)
}

/// Returns the code of the error that SQS answered.
fn code<T: std::fmt::Debug, E: ProvideErrorMetadata, R>(answer: Result<T, SdkError<E, R>>) -> String {
    match answer {
        Err(SdkError::ServiceError(error)) => error.err().code().unwrap_or_default().to_owned(),
        Err(_) => "no answer".to_owned(),
        Ok(answer) => panic!("{answer:?}"),
    }
}

#[test]
fn a_key_may_do_what_it_has_a_right_to_and_nothing_else() {
    let (_place, host) = host();
    Runtime::new().unwrap().block_on(async {
        let owner = client(&host, "sandhog", OWNER);
        let create = async |name: &str| {
            let created = owner.create_queue().queue_name(name).send().await.unwrap();
            created.queue_url.unwrap()
        };
        let (mine, other) = (create("app-orders").await, create("payments").await);
        let app = client(&host, "app", APPLICATION);
        app.send_message()
            .queue_url(&mine)
            .message_body("hello")
            .send()
            .await
            .unwrap();
        let received = app.receive_message().queue_url(&mine).send().await.unwrap();
        let handle = received.messages()[0].receipt_handle.clone().unwrap();
        app.delete_message()
            .queue_url(&mine)
            .receipt_handle(handle)
            .send()
            .await
            .unwrap();
        let denied = "AccessDenied";
        assert_eq!(code(app.purge_queue().queue_url(&mine).send().await), denied);
        assert_eq!(code(app.delete_queue().queue_url(&mine).send().await), denied);
        assert_eq!(code(app.create_queue().queue_name("app-new").send().await), denied);
        assert_eq!(code(app.receive_message().queue_url(&other).send().await), denied);
        let listed = app.list_queues().send().await.unwrap();
        assert_eq!(listed.queue_urls(), [mine], "a key sees its own queues");
    });
}

#[test]
fn a_wrong_secret_or_an_unknown_key_is_refused_as_on_aws() {
    let (_place, host) = host();
    Runtime::new().unwrap().block_on(async {
        let wrong = client(&host, "app", "another-secret-altogether");
        assert_eq!(code(wrong.list_queues().send().await), "SignatureDoesNotMatch");
        let unknown = client(&host, "nobody", APPLICATION);
        assert_eq!(code(unknown.list_queues().send().await), "InvalidClientTokenId");
    });
    // Without a signature at all, with one that is only copied, and with the owner's secret as on the other routes.
    let call = |authorization: Option<&str>| {
        let mut request = ureq::post(&host.url)
            .config()
            .http_status_as_error(false)
            .build()
            .header("content-type", "application/x-www-form-urlencoded");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let mut answer = request.send("Action=ListQueues").unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    };
    let (status, text) = call(None);
    assert!(
        status == 403 && text.contains("<Code>MissingAuthenticationToken</Code>"),
        "{text}"
    );
    let copied =
        "AWS4-HMAC-SHA256 Credential=sandhog/20240101/eu-west-1/sqs/aws4_request, SignedHeaders=host, Signature=00";
    let (status, text) = call(Some(copied));
    assert!(status >= 400 && text.contains("<Error>"), "{text}");
    let (status, text) = call(Some("Bearer wrong"));
    assert!(status == 403 && text.contains("<Error>"), "{text}");
    let (status, text) = call(Some(&format!("Bearer {OWNER}")));
    assert!(status == 200 && text.contains("ListQueuesResult"), "{text}");
}

#[test]
fn a_reload_changes_the_secret_of_a_key_and_takes_keys_away() {
    let (place, host) = host();
    host.wait_ready();
    Runtime::new().unwrap().block_on(async {
        let owner = client(&host, "sandhog", OWNER);
        let created = owner.create_queue().queue_name("app-orders").send().await.unwrap();
        let url = created.queue_url.unwrap();
        let send = async |secret: &str| {
            let app = client(&host, "app", secret);
            app.send_message().queue_url(&url).message_body("x").send().await
        };
        send(APPLICATION).await.unwrap();
        fs::write(place.path().join("app"), "another-secret-of-the-application").unwrap();
        let reload = || {
            let args = ["reload", "--url", &host.url];
            let output = place
                .command()
                .args(args)
                .env("SANDHOG_SECRET", OWNER)
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let said = reload();
        assert!(said.contains("keys.app"), "{said}");
        assert_eq!(code(send(APPLICATION).await), "SignatureDoesNotMatch");
        send("another-secret-of-the-application").await.unwrap();
        place.configure("secret-file = \"owner\"\n[queues.declared]\n");
        reload();
        assert_eq!(
            code(send("another-secret-of-the-application").await),
            "InvalidClientTokenId"
        );
    });
}

#[test]
fn a_queue_that_the_host_declares_is_not_changed_over_the_wire() {
    let (_place, host) = host();
    Runtime::new().unwrap().block_on(async {
        let owner = client(&host, "sandhog", OWNER);
        let url = owner.get_queue_url().queue_name("declared").send().await.unwrap();
        let url = url.queue_url.unwrap();
        let unsupported = "AWS.SimpleQueueService.UnsupportedOperation";
        assert_eq!(code(owner.delete_queue().queue_url(&url).send().await), unsupported);
        let set = owner.set_queue_attributes().queue_url(&url);
        let set = set.attributes(aws_sdk_sqs::types::QueueAttributeName::VisibilityTimeout, "1");
        assert_eq!(code(set.send().await), unsupported);
        owner.purge_queue().queue_url(&url).send().await.unwrap();
    });
}

#[test]
fn without_a_secret_any_signature_will_do_and_no_web_page_gets_in() {
    let place = Place::new();
    let host = place.start();
    let client = SqsClient::new(&host.url);
    let queue = client.create_queue("q", &[]);
    client.send(&queue, "hello");
    let status = |request: ureq::RequestBuilder<ureq::typestate::WithBody>| {
        let request = request
            .config()
            .http_status_as_error(false)
            .build()
            .header("content-type", "application/x-www-form-urlencoded");
        request
            .send("Action=PurgeQueue&QueueUrl=/0/q")
            .unwrap()
            .status()
            .as_u16()
    };
    for (name, value) in [
        ("origin", "https://example.com"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("host", "example.com"),
    ] {
        assert_eq!(
            status(ureq::post(&host.url).header(name, value)),
            403,
            "{name}: {value}"
        );
    }
    // A link or an image on a page of another server.
    let link = format!("{}/?Action=PurgeQueue&QueueUrl=/0/q", host.url);
    let answer = ureq::get(&link).config().http_status_as_error(false).build().call();
    assert_eq!(answer.unwrap().status().as_u16(), 403);
    assert_eq!(client.receive(&queue, 1, 0).len(), 1, "nothing was purged");
    assert_eq!(status(ureq::post(&host.url).header("sec-fetch-site", "none")), 200);
}
