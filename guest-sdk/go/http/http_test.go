package http_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"sandhog"
	sandhoghttp "sandhog/http"
	"sandhog/sandhogtest"
)

// post is a handler that posts the body of its message.
func post(ctx context.Context, message *sandhog.Message) error {
	client := http.Client{Timeout: 10 * time.Millisecond}
	response, err := client.Post("https://api.example.com/echo?a=1", "text/plain", strings.NewReader(string(message.Body)))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		return sandhoghttp.RetryAfter(response)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	return sandhog.Reject("%s", body)
}

func TestATestAnswersTheRequestsOfAHandlerAndSeesThem(t *testing.T) {
	host := sandhogtest.Host{HTTP: sandhogtest.Serve(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Write([]byte("echo: " + string(body)))
	})}
	result := host.Run(post, sandhogtest.Message("hello"))
	if result.Reason != "echo: hello" || len(result.Logged) != 0 {
		t.Error(result)
	}
	request := result.Requests[0]
	if len(result.Requests) != 1 || request.Method != "POST" || request.URL != "https://api.example.com/echo?a=1" ||
		request.Header.Get("Content-Type") != "text/plain" || string(request.Body) != "hello" {
		t.Error(result.Requests)
	}
}

func TestARequestIsNotGrantedWhereNoServerWasGiven(t *testing.T) {
	var err error
	result := sandhogtest.Run(func(ctx context.Context, message *sandhog.Message) error {
		err = post(ctx, message)
		return err
	}, sandhogtest.Message(""))
	if !errors.Is(err, sandhog.ErrNotGranted) || result.Verdict != sandhog.Retried ||
		!strings.Contains(result.Reason, `add "https://api.example.com" to http in [grant]`) {
		t.Error(result)
	}
}

func TestAServerThatNeverAnswersIsATimeout(t *testing.T) {
	host := sandhogtest.Host{HTTP: sandhogtest.Serve(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })}
	host.Run(func(ctx context.Context, message *sandhog.Message) error {
		var timeout net.Error
		if err := post(ctx, message); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Error(err)
		}
		return nil
	}, sandhogtest.Message(""))
}

func TestARequestToComeBackLaterHasItsDelay(t *testing.T) {
	for header, want := range map[string]sandhogtest.Result{
		"":     {Verdict: sandhog.Retried},
		"soon": {Verdict: sandhog.Retried},
		"-1":   {Verdict: sandhog.Retried},
		"0":    {Verdict: sandhog.RetriedAfter},
		"90":   {Verdict: sandhog.RetriedAfter, Delay: 90 * time.Second},
		time.Unix(0, 0).UTC().Format(http.TimeFormat): {Verdict: sandhog.RetriedAfter},
	} {
		host := sandhogtest.Host{HTTP: sandhogtest.Serve(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", header)
			w.WriteHeader(http.StatusTooManyRequests)
		})}
		result := host.Run(post, sandhogtest.Message(""))
		if result.Verdict != want.Verdict || result.Delay != want.Delay ||
			!strings.HasSuffix(result.Reason, "429 Too Many Requests") {
			t.Errorf("%q: %+v", header, result)
		}
	}
}

func TestAStatusDecidesWhatBecomesOfAMessage(t *testing.T) {
	for status, want := range map[int]sandhog.Verdict{
		200: sandhog.Succeeded, 204: sandhog.Succeeded,
		304: sandhog.Retried, 500: sandhog.Retried, 503: sandhog.RetriedAfter, 429: sandhog.RetriedAfter,
		400: sandhog.Rejected, 404: sandhog.Rejected, 499: sandhog.Rejected,
	} {
		response := &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {"1"}}}
		if verdict, _ := sandhog.VerdictOf(sandhoghttp.Check(response)); verdict != want {
			t.Errorf("%d: %v", status, verdict)
		}
	}
}

func TestARequestCarriesJSON(t *testing.T) {
	request, err := sandhoghttp.NewJSONRequest(context.Background(), "PUT", "https://api.example.com/", map[string]int{"a": 1})
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(request.Body)
	if request.Method != "PUT" || request.Header.Get("Content-Type") != "application/json" || string(body) != `{"a":1}` ||
		request.ContentLength != 7 {
		t.Error(request, string(body))
	}
	if _, err := sandhoghttp.NewJSONRequest(context.Background(), "PUT", "https://api.example.com/", func() {}); err == nil {
		t.Error("a function has JSON")
	}
}

func TestAnErrorOfTheHostIsWhatGoCallsIt(t *testing.T) {
	for _, c := range []struct {
		code string
		is   error
	}{
		{"HTTP-request-denied", sandhog.ErrNotGranted},
		{"destination-IP-prohibited", sandhog.ErrNotGranted},
		{"HTTP-request-body-size", sandhog.ErrLimit},
		{"HTTP-response-body-size", sandhog.ErrLimit},
		{"connection-timeout", context.DeadlineExceeded},
		{"HTTP-response-timeout", context.DeadlineExceeded},
		{"connection-refused", syscall.ECONNREFUSED},
		{"TLS-certificate-error", nil},
	} {
		host := sandhogtest.Host{HTTP: sandhogtest.Answer(func(*http.Request) (*http.Response, error) {
			return nil, &sandhoghttp.Error{Code: c.code}
		})}
		host.Run(func(ctx context.Context, message *sandhog.Message) error {
			err := post(ctx, message)
			for _, kind := range []error{sandhog.ErrNotGranted, sandhog.ErrLimit, context.DeadlineExceeded, syscall.ECONNREFUSED} {
				if errors.Is(err, kind) != (kind == c.is) {
					t.Errorf("%s is, or is not: %v", c.code, kind)
				}
			}
			return nil
		}, sandhogtest.Message(""))
	}
}

func TestTooManyRequestsAreRetriedAndTooLargeBodiesRejected(t *testing.T) {
	for code, want := range map[string]sandhog.Verdict{
		"HTTP-request-denied":      sandhog.Retried,
		"connection-limit-reached": sandhog.Retried,
		"HTTP-request-body-size":   sandhog.Rejected,
		"HTTP-response-body-size":  sandhog.Rejected,
	} {
		host := sandhogtest.Host{HTTP: sandhogtest.Answer(func(*http.Request) (*http.Response, error) {
			return nil, &sandhoghttp.Error{Code: code}
		})}
		if result := host.Run(post, sandhogtest.Message("")); result.Verdict != want {
			t.Errorf("%s: %+v", code, result)
		}
	}
}

func TestTheReasonHasNoQueryOfTheURL(t *testing.T) {
	for name, answer := range map[string]func(error) error{
		"returned": func(err error) error { return err },
		"wrapped":  func(err error) error { return sandhog.Reject("not posted: %w", err) },
		"as text":  func(err error) error { return sandhog.Retry("not posted: %v", err) },
	} {
		result := sandhogtest.Run(func(ctx context.Context, message *sandhog.Message) error {
			return answer(post(ctx, message))
		}, sandhogtest.Message(""))
		if !strings.Contains(result.Reason, `Post "https://api.example.com/echo": https://api.example.com is not granted`) {
			t.Errorf("%s: %s", name, result.Reason)
		}
	}
}

func TestTheDefaultTransportKeepsItsType(t *testing.T) {
	sandhogtest.Run(func(context.Context, *sandhog.Message) error {
		if _, ok := http.DefaultTransport.(*http.Transport); !ok {
			t.Errorf("%T", http.DefaultTransport)
		}
		return nil
	}, sandhogtest.Message(""))
}
