package http_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sandhog"
	sandhoghttp "sandhog/http"
	"sandhog/sandhogtest"
)

// What a handler's package makes of the default transport before any handler runs.
var captured = map[string]http.RoundTripper{
	"transport":        http.DefaultTransport,
	"clone":            http.DefaultTransport.(*http.Transport).Clone(),
	"clone of a clone": http.DefaultTransport.(*http.Transport).Clone().Clone(),
}

// server is a real one, which no handler in a test may reach.
func server(t *testing.T) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, io.MultiReader(strings.NewReader("real: "), r.Body))
	}))
	t.Cleanup(server.Close)
	return server
}

func echo(client *http.Client, url string) (string, error) {
	response, err := client.Post(url, "text/plain", strings.NewReader("hello"))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func TestATransportThatAHandlerKeepsGoesToTheTest(t *testing.T) {
	for name, transport := range captured {
		for _, url := range []string{server(t).URL + "/a?b=1", "https://127.0.0.1:9/a?b=1"} {
			host := sandhogtest.Host{HTTP: sandhogtest.Serve(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				w.Write([]byte("test: " + string(body)))
			})}
			result := host.Run(func(context.Context, *sandhog.Message) error {
				answer, err := echo(&http.Client{Transport: transport}, url)
				if answer != "test: hello" || err != nil {
					t.Errorf("%s of %s: %q, %v", name, url, answer, err)
				}
				return err
			}, sandhogtest.Message(""))
			if len(result.Requests) != 1 || result.Requests[0].URL != url || string(result.Requests[0].Body) != "hello" {
				t.Errorf("%s of %s: %+v", name, url, result.Requests)
			}
		}
	}
}

func TestATransportThatAHandlerKeepsHasTheErrorsOfTheTest(t *testing.T) {
	for name, transport := range captured {
		sandhogtest.Run(func(context.Context, *sandhog.Message) error {
			if _, err := echo(&http.Client{Transport: transport}, server(t).URL); !errors.Is(err, sandhog.ErrNotGranted) {
				t.Errorf("%s without a server: %v", name, err)
			}
			return nil
		}, sandhogtest.Message(""))
		host := sandhogtest.Host{HTTP: sandhogtest.Answer(func(*http.Request) (*http.Response, error) {
			return nil, &sandhoghttp.Error{Code: "HTTP-request-body-size"}
		})}
		host.Run(func(context.Context, *sandhog.Message) error {
			if _, err := echo(&http.Client{Transport: transport}, server(t).URL); !errors.Is(err, sandhog.ErrLimit) {
				t.Errorf("%s: %v", name, err)
			}
			return nil
		}, sandhogtest.Message(""))
	}
}

func TestOutsideOfARunATransportGoesToTheNetwork(t *testing.T) {
	server := server(t)
	for name, transport := range captured {
		client := &http.Client{Transport: transport}
		for range 2 {
			if answer, err := echo(client, server.URL); answer != "real: hello" || err != nil {
				t.Errorf("%s: %q, %v", name, answer, err)
			}
			// What was connected before the run is no way around the test.
			result := sandhogtest.Host{HTTP: sandhogtest.Serve(func(http.ResponseWriter, *http.Request) {})}.Run(
				func(context.Context, *sandhog.Message) error {
					answer, err := echo(client, server.URL)
					return sandhog.Reject("%q, %v", answer, err)
				}, sandhogtest.Message(""))
			if result.Reason != `"", <nil>` {
				t.Errorf("%s: %s", name, result.Reason)
			}
		}
	}
}
