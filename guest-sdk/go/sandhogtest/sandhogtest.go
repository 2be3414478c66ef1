// Package sandhogtest runs a handler natively, in an ordinary test, without a host.
//
//	func TestAnOrderIsTotalled(t *testing.T) {
//		result := sandhogtest.Run(handle, sandhogtest.Message(`{"id": 7, "items": []}`))
//		if result.Verdict != sandhog.Succeeded {
//			t.Fatal(result.Verdict, result.Reason)
//		}
//	}
//
// A handler that reaches out finds what a [Host] has for it:
//
//	host := sandhogtest.Host{
//		HTTP:     sandhogtest.Serve(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }),
//		KeyValue: sandhogtest.Stores{"orders": {"7": "paid"}},
//		Config:   map[string]string{"api": "https://api.example.com"},
//	}
//	result := host.Run(handle, sandhogtest.Message(`{"id": 8}`))
//
// What it was not given fails as without its grant.
package sandhogtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"sandhog"
	"sandhog/internal/host"
	"sandhog/internal/reason"
	"sandhog/internal/route"
)

// Message makes a message with this body: the first receive of an ungrouped message of queue test, sent
// at the start of 2026. Change its fields as needed.
func Message(body string) *sandhog.Message {
	return &sandhog.Message{
		ID:           "test-message",
		Body:         []byte(body),
		Queue:        "test",
		ReceiveCount: 1,
		SentAt:       time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

// Sent is a message that a handler sent.
type Sent struct {
	Queue   string
	Message sandhog.Outgoing
}

// Line is a line that a handler logged with log/slog.
type Line struct {
	Level slog.Level
	Text  string
}

// Result is what a handler did with a message.
type Result struct {
	// Verdict is what becomes of the message.
	Verdict sandhog.Verdict
	// Delay is that of sandhog.RetriedAfter.
	Delay time.Duration
	// Reason is why the message was not handled.
	Reason string
	// Sent are the messages that the handler sent. A host would drop them if the handler failed; they
	// are here in any case, so that a test can look at them.
	Sent []Sent
	// Logged are the lines that the handler logged.
	Logged []Line
	// Requests are the HTTP requests that the handler made, answered or not.
	Requests []Request
	// KeyValue is what the key-value stores hold, as the handler left them. A host would drop what a
	// handler wrote that failed.
	KeyValue Stores
}

// Host says how the host that a test needs differs from one that accepts everything a real one would.
type Host struct {
	// Refuse is the error of every send, such as sandhog.ErrNotGranted.
	Refuse error
	// HTTP answers the requests of the handler: see Serve. Without it they go to servers that are not
	// granted. The handler has to import sandhog/http, as for a real host.
	HTTP http.RoundTripper
	// KeyValue is what the key-value stores hold at first. Stores{} is a grant with nothing stored.
	KeyValue Stores
	// Config are the values of the configuration. An empty map is a grant without values.
	Config map[string]string
}

// Run runs a handler on a message. A panic of the handler is one of the test.
func Run(handle func(context.Context, *sandhog.Message) error, message *sandhog.Message) Result {
	return Host{}.Run(handle, message)
}

// Run runs a handler on a message, on this host.
func (h Host) Run(handle func(context.Context, *sandhog.Message) error, message *sandhog.Message) Result {
	var err error
	result := h.record(func() { err = handle(context.Background(), message) })
	result.judge(err)
	return result
}

// RunBatch runs a batch handler on messages. The result of each message is returned in their order; what
// the handler did beside that is in the first.
func RunBatch(handle func(context.Context, []*sandhog.Message) []error, messages ...*sandhog.Message) []Result {
	return Host{}.RunBatch(handle, messages...)
}

// RunBatch runs a batch handler on messages, on this host.
func (h Host) RunBatch(handle func(context.Context, []*sandhog.Message) []error, messages ...*sandhog.Message) []Result {
	var errs []error
	first := h.record(func() { errs = handle(context.Background(), messages) })
	results := make([]Result, len(errs))
	for i, err := range errs {
		if i == 0 {
			results[i] = first
		}
		results[i].judge(err)
	}
	return results
}

// running makes runs wait for each other: a handler is not told which host it runs on.
var running sync.Mutex

func (h Host) record(run func()) Result {
	running.Lock()
	defer running.Unlock()
	recorder := &recorder{refuse: h.Refuse}
	network := &network{servers: h.HTTP}
	stores := h.KeyValue.clone()
	logger := slog.Default()
	defer slog.SetDefault(logger)
	defer replace[host.Sender](&host.CurrentSender, recorder)()
	defer replace[host.Logger](&host.CurrentLogger, recorder)()
	defer replace[host.KeyValue](&host.CurrentKeyValue, stores)()
	defer replace[host.Config](&host.CurrentConfig, config(h.Config))()
	defer route.ToTest(network)()
	slog.SetDefault(slog.New(sandhog.LogHandler(nil)))
	run()
	recorder.result.Requests = network.requests
	recorder.result.KeyValue = stores
	return recorder.result
}

// replace sets a variable, and returns what sets it back.
func replace[T any](variable *T, value T) (restore func()) {
	before := *variable
	*variable = value
	return func() { *variable = before }
}

func (r *Result) judge(err error) {
	r.Verdict, r.Delay = sandhog.VerdictOf(err)
	if err != nil {
		r.Reason = reason.Of(err.Error())
	}
}

type recorder struct {
	refuse error
	result Result
}

func (r *recorder) Send(queue string, message host.Outgoing) *host.Refusal {
	return r.SendMany(queue, []host.Outgoing{message})
}

func (r *recorder) SendMany(queue string, messages []host.Outgoing) *host.Refusal {
	if r.refuse != nil {
		return refusal(r.refuse)
	}
	for _, message := range messages {
		if wrong := check(message); wrong != "" {
			return &host.Refusal{Kind: host.Invalid, Reason: wrong}
		}
	}
	for _, message := range messages {
		r.result.Sent = append(r.result.Sent, Sent{queue, outgoing(message)})
	}
	return nil
}

func (r *recorder) Log(level host.Level, text string) {
	levels := [...]slog.Level{
		sandhog.LevelTrace, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError, sandhog.LevelCritical,
	}
	r.result.Logged = append(r.result.Logged, Line{levels[level], text})
}

func refusal(err error) *host.Refusal {
	kind := host.Invalid
	if errors.Is(err, sandhog.ErrNotGranted) {
		kind = host.NotGranted
	} else if errors.Is(err, sandhog.ErrLimit) {
		kind = host.Limit
	}
	return &host.Refusal{Kind: kind, Reason: err.Error()}
}

func outgoing(message host.Outgoing) sandhog.Outgoing {
	lifted := sandhog.Received(host.Message{Body: message.Body, Attributes: message.Attributes})
	return sandhog.Outgoing{
		Body:            append([]byte{}, message.Body...),
		Attributes:      lifted.Attributes,
		Delay:           time.Duration(message.DelaySeconds) * time.Second,
		GroupID:         message.GroupID,
		DeduplicationID: message.DeduplicationID,
		Priority:        message.Priority,
	}
}

// check says what a host would find wrong with a message, if anything.
func check(message host.Outgoing) string {
	switch {
	case len(message.Body) > 1<<20:
		return fmt.Sprintf("a body of %d bytes: at most %d", len(message.Body), 1<<20)
	case len(message.Attributes) > 10:
		return fmt.Sprintf("%d attributes: a message has at most 10", len(message.Attributes))
	case message.DelaySeconds > 43200:
		return fmt.Sprintf("a delay of %d s: at most 43200 s", message.DelaySeconds)
	case len(message.GroupID) > 128:
		return fmt.Sprintf("a group id of %d bytes: use 1 to 128", len(message.GroupID))
	case len(message.DeduplicationID) > 128:
		return fmt.Sprintf("a deduplication id of %d bytes: use 1 to 128", len(message.DeduplicationID))
	case message.Priority > 9:
		return fmt.Sprintf("priority %d: use 0 to 9", message.Priority)
	}
	names := map[string]bool{}
	for _, attribute := range message.Attributes {
		if attribute.Name == "" || len(attribute.Name) > 256 {
			return fmt.Sprintf("attribute name %q: use 1 to 256 bytes", attribute.Name)
		}
		if names[attribute.Name] {
			return fmt.Sprintf("there are two attributes %q", attribute.Name)
		}
		names[attribute.Name] = true
	}
	return ""
}
