package sandhog_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"testing"
	"time"

	"sandhog"
	"sandhog/sandhogtest"
)

func TestAnyOtherErrorIsARetryWithItsText(t *testing.T) {
	for _, c := range []struct {
		err     error
		verdict sandhog.Verdict
		delay   time.Duration
	}{
		{nil, sandhog.Succeeded, 0},
		{errors.New("no connection"), sandhog.Retried, 0},
		{sandhog.Retry("busy %d", 7), sandhog.Retried, 0},
		{sandhog.RetryAfter(time.Minute, "busy"), sandhog.RetriedAfter, time.Minute},
		{sandhog.Reject("never: %w", errors.New("why")), sandhog.Rejected, 0},
		{fmt.Errorf("in the parser: %w", sandhog.Reject("never")), sandhog.Rejected, 0},
		{fmt.Errorf("%w: queue a", sandhog.ErrNotGranted), sandhog.Retried, 0},
		{fmt.Errorf("%w: priority 10", sandhog.ErrInvalid), sandhog.Rejected, 0},
		{fmt.Errorf("%w: 1000 messages", sandhog.ErrLimit), sandhog.Rejected, 0},
		{sandhog.Retry("later: %w", sandhog.ErrLimit), sandhog.Retried, 0},
	} {
		verdict, delay := sandhog.VerdictOf(c.err)
		if verdict != c.verdict || delay != c.delay {
			t.Errorf("%v: %v after %v", c.err, verdict, delay)
		}
		if outcome := sandhog.Outcome(c.err); c.err != nil && outcome.Reason != c.err.Error() {
			t.Errorf("%v: reason %q", c.err, outcome.Reason)
		}
	}
}

func TestAReasonKeepsWhatItWraps(t *testing.T) {
	why := errors.New("why")
	if err := sandhog.Reject("never: %w", why); !errors.Is(err, why) || err.Error() != "never: why" {
		t.Error(err)
	}
}

func TestAReasonThatIsNotUTF8IsMadeText(t *testing.T) {
	if outcome := sandhog.Outcome(sandhog.Reject("bad: \xff")); outcome.Reason != "bad: \uFFFD" {
		t.Errorf("%q", outcome.Reason)
	}
}

func TestAShortDelayDoesNotBecomeNone(t *testing.T) {
	for delay, seconds := range map[time.Duration]uint32{
		-time.Second: 0, 0: 0, 1: 1, time.Second: 1, time.Second + 1: 2, 1<<63 - 1: 1<<32 - 1,
	} {
		if outcome := sandhog.Outcome(sandhog.RetryAfter(delay, "busy")); outcome.DelaySeconds != seconds {
			t.Errorf("%v: %d s", delay, outcome.DelaySeconds)
		}
	}
}

func TestMalformedJSONIsRejectedWithItsPlace(t *testing.T) {
	for body, place := range map[string]string{
		"{\n  \"a\": }":     "at line 2 column 8",
		"{\"a\": 1":         "it ends too early at line 1 column 8",
		"":                  "it ends too early at line 1 column 1",
		"{} x":              "something follows the value",
		"\xff":              "not UTF-8",
		"{\"a\": \"text\"}": "line 1",
	} {
		var into struct{ A int }
		err := sandhogtest.Message(body).JSON(&into)
		if verdict, _ := sandhog.VerdictOf(err); verdict != sandhog.Rejected || !strings.Contains(err.Error(), place) {
			t.Errorf("%q: %v: %v", body, verdict, err)
		}
	}
	var into struct{ A int }
	if err := sandhogtest.Message(" {\"a\": 7}\n").JSON(&into); err != nil || into.A != 7 {
		t.Error(into, err)
	}
}

func TestBytesThatAreNotTextAreRejectedWithTheirPlace(t *testing.T) {
	if _, err := sandhogtest.Message("aé\xff").Text(); err == nil || !strings.Contains(err.Error(), "byte 3 ") {
		t.Error(err)
	}
	if text, err := sandhogtest.Message("täxt\uFFFD").Text(); err != nil || text != "täxt\uFFFD" {
		t.Error(text, err)
	}
}

func TestAValueIsReadOnlyAsTheKindThatItIs(t *testing.T) {
	number, text, binary := sandhog.Number("-12.50"), sandhog.Text("7"), sandhog.Binary([]byte{0, 0xff})
	if _, ok := number.Text(); ok {
		t.Error("a number is read as text")
	}
	if _, ok := text.Int64(); ok {
		t.Error("text is read as a number")
	}
	if _, ok := binary.Number(); ok {
		t.Error("bytes are read as a number")
	}
	if float, ok := number.Float64(); !ok || float != -12.5 {
		t.Error(float, ok)
	}
	if _, ok := number.Int64(); ok {
		t.Error("-12.50 is read as an integer")
	}
	if bytes, ok := binary.Binary(); !ok || len(bytes) != 2 || bytes[1] != 0xff {
		t.Error(bytes, ok)
	}
	if integer, ok := sandhog.Integer(-7).Int64(); !ok || integer != -7 {
		t.Error(integer, ok)
	}
}

func TestATestSeesWhatTheHandlerSentAndLogged(t *testing.T) {
	all := sandhog.Outgoing{
		Body: []byte("täxt"), Delay: 1500 * time.Millisecond, GroupID: "g", DeduplicationID: "d", Priority: 9,
	}.With("a", sandhog.Text("1")).With("b", sandhog.Binary([]byte{0}))
	result := sandhogtest.Run(func(ctx context.Context, message *sandhog.Message) error {
		slog.Debug("at", "id", message.ID)
		log.Print("old style")
		if err := sandhog.SendMany("q", []sandhog.Outgoing{all, {}}); err != nil {
			return err
		}
		return sandhog.RetryAfter(time.Minute, "busy")
	}, sandhogtest.Message("body"))
	if result.Verdict != sandhog.RetriedAfter || result.Delay != time.Minute || result.Reason != "busy" {
		t.Error(result)
	}
	sent := result.Sent[0].Message
	if len(result.Sent) != 2 || string(sent.Body) != "täxt" || sent.Delay != 2*time.Second || sent.GroupID != "g" ||
		sent.DeduplicationID != "d" || sent.Priority != 9 || len(sent.Attributes) != 2 ||
		sent.Attributes[1].Value != sandhog.Binary([]byte{0}) {
		t.Error(result.Sent)
	}
	want := []sandhogtest.Line{{Level: slog.LevelDebug, Text: "at id=test-message"}, {Level: slog.LevelInfo, Text: "old style"}}
	if len(result.Logged) != 2 || result.Logged[0] != want[0] || result.Logged[1] != want[1] {
		t.Error(result.Logged)
	}
}

func TestAMessageThatAHostRefusesIsRefusedInTestsWithAllOthers(t *testing.T) {
	eleven := make([]sandhog.Attribute, 11)
	for i := range eleven {
		eleven[i] = sandhog.Attribute{Name: fmt.Sprint(i), Value: sandhog.Integer(1)}
	}
	for part, message := range map[string]sandhog.Outgoing{
		"1048577 bytes":        {Body: make([]byte, 1<<20+1)},
		"11 attributes":        {Attributes: eleven},
		"two attributes \"0\"": {Attributes: []sandhog.Attribute{eleven[0], eleven[0]}},
		"1 to 256 bytes":       sandhog.Outgoing{}.With("", sandhog.Text("")),
		"43201 s":              {Delay: 43201 * time.Second},
		"priority 10":          {Priority: 10},
		"group id":             {GroupID: strings.Repeat("g", 129)},
	} {
		result := sandhogtest.Run(func(ctx context.Context, _ *sandhog.Message) error {
			return sandhog.SendMany("q", []sandhog.Outgoing{{}, message})
		}, sandhogtest.Message(""))
		if result.Verdict != sandhog.Rejected || !strings.Contains(result.Reason, part) || len(result.Sent) != 0 {
			t.Errorf("%s: %+v", part, result)
		}
	}
}

func TestAMissingGrantIsRetriedBecauseAnOperatorCanAddIt(t *testing.T) {
	host := sandhogtest.Host{Refuse: sandhog.ErrNotGranted}
	result := host.Run(func(ctx context.Context, _ *sandhog.Message) error {
		err := sandhog.Send("q", sandhog.Outgoing{})
		if !errors.Is(err, sandhog.ErrNotGranted) {
			t.Error(err)
		}
		return err
	}, sandhogtest.Message(""))
	if result.Verdict != sandhog.Retried {
		t.Error(result)
	}
}

func TestABatchHasAResultPerMessage(t *testing.T) {
	results := sandhogtest.RunBatch(func(ctx context.Context, messages []*sandhog.Message) []error {
		errs := make([]error, len(messages))
		errs[1] = sandhog.Reject("%s", messages[1].Body)
		return errs
	}, sandhogtest.Message("a"), sandhogtest.Message("b"))
	if len(results) != 2 || results[0].Verdict != sandhog.Succeeded || results[1].Reason != "b" {
		t.Error(results)
	}
}
