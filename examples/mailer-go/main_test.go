package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sandhog"
	"sandhog/sandhogtest"
)

const body = `{"number": "2026-114", "name": "Åsa", "email": "asa@garden.example", "due": "2026-12-31", "total": 25}`

func init() {
	now = func() time.Time { return time.Date(2026, 12, 31, 12, 0, 0, 0, time.UTC) }
}

// host has a mail service that answers with this status.
func host(status int, header ...string) sandhogtest.Host {
	return sandhogtest.Host{
		HTTP: sandhogtest.Serve(func(w http.ResponseWriter, r *http.Request) {
			if len(header) == 2 {
				w.Header().Set(header[0], header[1])
			}
			w.WriteHeader(status)
		}),
		KeyValue: sandhogtest.Stores{},
		Config:   map[string]string{"service": "https://mail.example.com/v1/messages", "token": "s3cret"},
	}
}

func TestAnInvoiceIsMailedAndRemembered(t *testing.T) {
	result := host(http.StatusAccepted).Run(handle, sandhogtest.Message(body))
	if result.Verdict != sandhog.Succeeded || len(result.Requests) != 1 {
		t.Fatal(result)
	}
	request := result.Requests[0]
	if request.Header.Get("Idempotency-Key") != "2026-114" || request.Header.Get("Authorization") != "Bearer s3cret" {
		t.Error(request.Header)
	}
	for _, part := range []string{`"to":"asa@garden.example"`, "Dear Åsa", "25.00 EUR"} {
		if !strings.Contains(string(request.Body), part) {
			t.Errorf("%q is not in %s", part, request.Body)
		}
	}
	if result.KeyValue["mailed"]["2026-12 2026-114"] == "" {
		t.Error(result.KeyValue)
	}
}

func TestAnInvoiceThatWasMailedIsNotMailedAgain(t *testing.T) {
	host := host(http.StatusAccepted)
	for _, month := range []string{"2026-11", "2026-12"} {
		host.KeyValue = sandhogtest.Stores{"mailed": {month + " 2026-114": "then"}}
		if result := host.Run(handle, sandhogtest.Message(body)); result.Verdict != sandhog.Succeeded || len(result.Requests) != 0 {
			t.Error(month, result)
		}
	}
}

func TestWhatIsOlderThanLastMonthIsForgottenByAndBy(t *testing.T) {
	host := host(http.StatusAccepted)
	mailed := map[string]string{"2026-11 1": "", "2026-12 1": ""}
	for number := range 25 {
		mailed[fmt.Sprintf("2026-0%d %d", number%9+1, number)] = ""
	}
	for _, left := range []int{2 + 5 + 1, 2 + 2} {
		host.KeyValue = sandhogtest.Stores{"mailed": mailed}
		body := fmt.Sprintf(`{"number": "2026-%d", "email": "asa@garden.example"}`, left)
		mailed = host.Run(handle, sandhogtest.Message(body)).KeyValue["mailed"]
		if len(mailed) != left {
			t.Error(mailed)
		}
	}
	if _, kept := mailed["2026-11 1"]; !kept {
		t.Error(mailed)
	}
}

func TestLastMonthIsAMonthOfTheCalendar(t *testing.T) {
	for day, want := range map[string]string{
		"2027-01-01": "2026-12",
		"2026-03-31": "2026-02",
		"2026-12-31": "2026-11",
	} {
		date, _ := time.Parse(time.DateOnly, day)
		if _, last := months(date); last != want {
			t.Errorf("%s: %s", day, last)
		}
	}
}

func TestTheAnswerOfTheServiceDecides(t *testing.T) {
	for _, c := range []struct {
		status  int
		header  []string
		verdict sandhog.Verdict
		delay   time.Duration
	}{
		{429, []string{"Retry-After", "30"}, sandhog.RetriedAfter, 30 * time.Second},
		{503, nil, sandhog.Retried, 0},
		{401, nil, sandhog.Retried, 0},
		{422, nil, sandhog.Rejected, 0},
	} {
		result := host(c.status, c.header...).Run(handle, sandhogtest.Message(body))
		if result.Verdict != c.verdict || result.Delay != c.delay || len(result.KeyValue["mailed"]) != 0 {
			t.Errorf("%d: %+v", c.status, result)
		}
	}
}

func TestWhatIsNoInvoiceIsRejected(t *testing.T) {
	for _, body := range []string{"spade", "{}", `{"number": "7", "email": "nobody"}`} {
		if result := host(202).Run(handle, sandhogtest.Message(body)); result.Verdict != sandhog.Rejected {
			t.Error(body, result)
		}
	}
}
