"""Requests over HTTP: the small client, and the clients that people know, which go through the host."""

import importlib.util
import unittest
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.client import HTTPConnection, HTTPSConnection

import sandhog
from sandhog import http
from sandhog.testing import Response, message, run

API = "https://api.example.com"


def returning(call):
    """A handler that keeps what a call returns."""

    def handle(_):
        handle.value = call()

    return handle


def raised_by(call, error):
    """What a call raises when a request fails so."""

    def handle(_):
        try:
            call()
        except Exception as raised:
            handle.raised = raised

    run(handle, message(), http=lambda _: error)
    return handle.raised


class HttpTest(unittest.TestCase):
    def call(self, call, answers):
        handle = returning(call)
        outcome = run(handle, message(), http=answers)
        self.assertEqual((outcome.verdict, outcome.reason), ("success", None))
        return handle.value, outcome.requests


class ClientTest(HttpTest):
    def test_a_request_has_the_parts_that_it_was_made_of(self):
        response, requests = self.call(
            lambda: http.request("post", f"{API}/ä b?q=ü#top", json={"a": "ä"}, headers={"X-Key": "k", "Host": "other"}),
            {f"POST {API}/%C3%A4%20b?q=%C3%BC": Response(201, json={"id": 1}, headers={"X-A": "1"})},
        )
        self.assertEqual((response.status, response.ok, response.json(), response.headers["x-a"]), (201, True, {"id": 1}, "1"))
        self.assertEqual(requests[0].json(), {"a": "ä"})
        expected = {"x-key": "k", "content-type": "application/json", "content-length": "10"}
        self.assertEqual({name: requests[0].headers[name] for name in requests[0].headers}, expected)

    def test_a_body_can_be_sent_and_read_in_pieces(self):
        response, requests = self.call(
            lambda: http.request("PUT", API, body=(b"x" * 1000 for _ in range(100))), lambda _: Response(200, "y" * 200_000)
        )
        self.assertEqual(len(requests[0].body), 100_000)
        self.assertNotIn("content-length", requests[0].headers)
        self.assertEqual(response.read(3), b"yyy")
        self.assertEqual(sum(map(len, response)), 199_997)

    def test_redirects_are_followed_without_the_secrets_for_another_server(self):
        response, requests = self.call(
            lambda: http.request("POST", f"{API}/old", body="b", headers={"authorization": "Bearer t"}),
            {
                f"POST {API}/old": Response(307, headers={"location": "/new"}),
                f"POST {API}/new": Response(303, headers={"location": "https://other.example.com/"}),
                "GET https://other.example.com/": 204,
            },
        )
        self.assertEqual((response.status, response.url), (204, "https://other.example.com/"))
        self.assertEqual([(r.body, "authorization" in r.headers) for r in requests], [(b"b", True), (b"b", True), (b"", False)])

    def test_a_redirect_can_be_returned(self):
        response, _ = self.call(
            lambda: http.request("GET", API, redirects=0), lambda _: Response(302, headers={"location": "/new"})
        )
        self.assertEqual(response.status, 302)

    def test_a_response_without_an_encoding_is_utf_8(self):
        for headers, body, expected in [
            ({}, "ä".encode(), "ä"),
            ({"content-type": 'text/plain; charset="latin-1"; x=y'}, b"\xe4", "ä"),
            ({"content-type": "text/plain; charset=none"}, b"a\xff", "a\ufffd"),
        ]:
            response, _ = self.call(lambda: http.request("GET", API), lambda _: Response(200, body, headers=headers))
            self.assertEqual(response.text(), expected)

    def test_a_server_says_when_to_come_back_in_either_form(self):
        for value, least, most in [
            ("17", 17, 17),
            (format_datetime(datetime.now(timezone.utc) + timedelta(minutes=2), usegmt=True), 100, 120),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0, 0),
            ("soon", 60, 60),
            (None, 60, 60),
        ]:
            headers = {} if value is None else {"Retry-After": value}
            response, _ = self.call(lambda: http.request("GET", API), lambda _: Response(503, headers=headers))
            self.assertTrue(least <= response.retry_after() <= most, value)

    def test_a_server_that_is_not_prepared_is_not_granted(self):
        outcome = run(lambda _: http.request("GET", f"{API}/x"), message(), http={f"POST {API}/x": 200})
        text = f'{API} is not granted: to grant it, add "{API}" to http in [grant] of the manifest'
        self.assertEqual((outcome.verdict, outcome.reason), ("retry", text))

    def test_each_error_is_the_one_of_the_operating_system_too(self):
        for error, kind in [
            (http.Timeout("t"), TimeoutError),
            (http.Unreachable("u"), ConnectionError),
            (http.NotGranted("n"), PermissionError),
            (http.InvalidRequest("i"), ValueError),
        ]:
            self.assertIsInstance(raised_by(lambda: http.request("GET", API), error), kind)
            outcome = run(lambda _: http.request("GET", API), message(), http=lambda _: error)
            self.assertEqual((outcome.verdict, outcome.reason), ("retry", str(error)))

    def test_limits_of_requests_and_of_bodies_are_retried(self):
        outcome = run(lambda _: http.request("GET", API), message(), http=lambda _: http.LimitReached("too many"))
        self.assertEqual((outcome.verdict, outcome.reason), ("retry", "too many"))

    def test_what_is_no_request_is_said(self):
        for url in ["ftp://a/", "/path", "http://", "https://name:secret@a/", "http://a:b/"]:
            with self.subTest(url):
                self.assertIsInstance(raised_by(lambda: http.request("GET", url), 200), http.InvalidRequest)

    def test_an_error_shows_neither_the_query_of_a_url_nor_its_user(self):
        for url in ["/path?token=s3cret", "ftp://me:s3cret@a/?token=s3cret", "http://a:b/?token=s3cret", "http://[?token=s3cret"]:
            with self.subTest(url):
                self.assertNotIn("s3cret", str(raised_by(lambda: http.request("GET", url), 200)))

    def test_a_reason_has_no_query_of_an_error_of_another_client(self):
        text = (
            "Max retries exceeded with url: /b?token=s3cret (Caused by x); "
            "404 Client Error: Not Found for url: https://me:s3cret@a.example/b?token=s3cret#c"
        )

        def crash(_):
            raise OSError(text)

        def retry(_):
            raise sandhog.Retry("no invoice") from OSError(text)

        shown = "Max retries exceeded with url: /b (Caused by x); 404 Client Error: Not Found for url: https://a.example/b"
        self.assertEqual(run(crash, message()).reason, f"OSError: {shown}")
        self.assertEqual(run(retry, message()).reason, f"no invoice: {shown}")

    def test_a_request_without_a_host_says_how_to_have_one(self):
        with self.assertRaisesRegex(RuntimeError, "sandhog.testing.run"):
            http.request("GET", API)


class StandardLibraryTest(HttpTest):
    def test_urllib_gets_and_posts(self):
        def call():
            with urllib.request.urlopen(f"{API}/a?b=c", timeout=3) as response:
                first = response.status, response.headers["X-A"], response.read()
            posted = urllib.request.Request(f"{API}/a", data=b"body", headers={"X-K": "v"}, method="PUT")
            with urllib.request.urlopen(posted) as response:
                return first, response.read()

        value, requests = self.call(
            call, {f"GET {API}/a?b=c": Response(200, "got", headers={"X-A": "1"}), f"PUT {API}/a": Response(200, "put")}
        )
        self.assertEqual(value, ((200, "1", b"got"), b"put"))
        self.assertEqual((requests[1].body, requests[1].headers["x-k"]), (b"body", "v"))

    def test_urllib_raises_what_it_always_raises(self):
        def call():
            try:
                urllib.request.urlopen(API)
            except urllib.error.HTTPError as error:
                return error.code, error.headers["Retry-After"]

        value, _ = self.call(call, lambda _: Response(429, headers={"Retry-After": "7"}))
        self.assertEqual(value, (429, "7"))
        for error, kind in [
            (http.Timeout("t"), TimeoutError),
            (http.Unreachable("u"), urllib.error.URLError),
            (None, urllib.error.URLError),
        ]:
            self.assertIsInstance(raised_by(lambda: urllib.request.urlopen(API), error), kind)
        self.assertIn("is not granted: to grant it", run(lambda _: urllib.request.urlopen(API), message()).reason)

    def test_urllib_follows_redirects(self):
        value, _ = self.call(
            lambda: urllib.request.urlopen("http://a.example.com/").read(),
            {"GET http://a.example.com/": Response(302, headers={"location": f"{API}/b"}), f"GET {API}/b": Response(200, "b")},
        )
        self.assertEqual(value, b"b")

    def test_a_connection_takes_several_requests_and_bodies_in_chunks(self):
        def call():
            connection = HTTPSConnection("api.example.com", timeout=2)
            connection.request("POST", "/", body=(b"ab" for _ in range(3)), encode_chunked=True)
            first = connection.getresponse().read()
            connection.request("POST", "/", body=b"one")
            return first, connection.getresponse().read()

        value, requests = self.call(call, lambda request: Response(200, request.body))
        self.assertEqual(value, (b"ababab", b"one"))

    def test_a_response_to_head_has_no_body(self):
        def call():
            connection = HTTPConnection("a.example.com", 8080)
            connection.request("HEAD", "/")
            response = connection.getresponse()
            return response.headers["content-length"], response.read()

        value, requests = self.call(call, lambda _: Response(200, "body"))
        self.assertEqual((value, requests[0].url), (("4", b""), "http://a.example.com:8080/"))


@unittest.skipUnless(importlib.util.find_spec("requests"), "requests is not installed")
class RequestsTest(HttpTest):
    def test_requests_gets_posts_and_streams(self):
        def call():
            import requests

            session = requests.Session()
            posted = session.post(f"{API}/a", json={"a": 1}, headers={"x-k": "v"}, timeout=3)
            streamed = session.get(f"{API}/b", stream=True)
            up = session.put(f"{API}/c", data=(b"xy" for _ in range(3)))
            return posted.json(), b"".join(streamed.iter_content(1000)), up.status_code

        value, requests = self.call(
            call,
            {f"POST {API}/a": Response(json=[1]), f"GET {API}/b": Response(body="y" * 100_000), f"PUT {API}/c": 503},
        )
        self.assertEqual(value, ([1], b"y" * 100_000, 503))
        self.assertEqual((requests[0].json(), requests[0].headers["x-k"], requests[2].body), ({"a": 1}, "v", b"xyxyxy"))

    def test_requests_raises_what_it_always_raises(self):
        import requests

        for error, kind in [
            (http.Timeout("t"), requests.Timeout),
            (http.Unreachable("u"), requests.ConnectionError),
            (None, requests.ConnectionError),
        ]:
            self.assertIsInstance(raised_by(lambda: requests.get(API), error), kind)


@unittest.skipUnless(importlib.util.find_spec("httpx"), "httpx is not installed")
class HttpxTest(HttpTest):
    def test_httpx_gets_posts_and_streams(self):
        def call():
            import httpx

            with httpx.Client(base_url=API) as client:
                posted = client.post("/a", json={"a": 1}, headers={"x-k": "v"})
                with client.stream("GET", "/b") as streamed:
                    size = sum(map(len, streamed.iter_bytes()))
                up = client.put("/c", content=(b"xy" for _ in range(3)))
            return posted.json(), size, up.status_code, httpx.get(f"{API}/b").status_code

        value, requests = self.call(
            call,
            {f"POST {API}/a": Response(json=[1]), f"GET {API}/b": Response(body="y" * 100_000), f"PUT {API}/c": 503},
        )
        self.assertEqual(value, ([1], 100_000, 503, 200))
        self.assertEqual((requests[0].json(), requests[0].headers["x-k"], requests[2].body), ({"a": 1}, "v", b"xyxyxy"))

    def test_httpx_raises_what_it_always_raises(self):
        import httpx

        for error, kind in [
            (http.Timeout("t"), httpx.TimeoutException),
            (http.Unreachable("u"), httpx.ConnectError),
            (None, httpx.ConnectError),
        ]:
            self.assertIsInstance(raised_by(lambda: httpx.get(API), error), kind)


if __name__ == "__main__":
    unittest.main()
