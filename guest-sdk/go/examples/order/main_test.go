package main

import (
	"net/http"
	"testing"
	"time"

	"sandhog"
	"sandhog/sandhogtest"
)

const body = `{"id": 7, "email": "ada@example.com", "items": [{"price": 12.5, "quantity": 2}]}`

// host has an API that answers every invoice with this status.
func host(status int, header ...string) sandhogtest.Host {
	return sandhogtest.Host{
		HTTP: sandhogtest.Serve(func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
		}),
		KeyValue: sandhogtest.Stores{},
		Config:   map[string]string{"api": "https://api.example.com", "token": "secret"},
	}
}

func TestAnOrderIsInvoiced(t *testing.T) {
	result := host(http.StatusCreated).Run(handle, sandhogtest.Message(body))
	if result.Verdict != sandhog.Succeeded || len(result.Requests) != 1 || len(result.Sent) != 1 {
		t.Fatal(result)
	}
	request := result.Requests[0]
	if request.URL != "https://api.example.com/invoices" || request.Header.Get("Authorization") != "Bearer secret" ||
		string(request.Body) != `{"email":"ada@example.com","id":7,"total":25}` {
		t.Error(request)
	}
	if result.Sent[0].Queue != "totals" || string(result.Sent[0].Message.Body) != "25" {
		t.Error(result.Sent)
	}
	if result.KeyValue["orders"]["7"] != "invoiced" || result.KeyValue["default"]["handled"] != "1" {
		t.Error(result.KeyValue)
	}
}

func TestAnOrderThatWasInvoicedIsSkipped(t *testing.T) {
	host := host(http.StatusCreated)
	host.KeyValue = sandhogtest.Stores{"orders": {"7": "invoiced"}}
	result := host.Run(handle, sandhogtest.Message(body))
	if result.Verdict != sandhog.Succeeded || len(result.Requests) != 0 || len(result.Sent) != 0 {
		t.Error(result)
	}
}

func TestTheAnswerOfTheAPIDecidesWhatBecomesOfAnOrder(t *testing.T) {
	for _, c := range []struct {
		status  int
		header  []string
		verdict sandhog.Verdict
		delay   time.Duration
	}{
		{429, []string{"Retry-After", "30"}, sandhog.RetriedAfter, 30 * time.Second},
		{503, nil, sandhog.Retried, 0},
		{500, nil, sandhog.Retried, 0},
		{422, nil, sandhog.Rejected, 0},
		{302, []string{"Location", "/invoices"}, sandhog.Retried, 0},
	} {
		result := host(c.status, c.header...).Run(handle, sandhogtest.Message(body))
		if result.Verdict != c.verdict || result.Delay != c.delay || len(result.Sent) != 0 {
			t.Errorf("%d: %+v", c.status, result)
		}
	}
}

func TestAnAPIThatTakesTooLongIsARetry(t *testing.T) {
	client.Timeout = time.Millisecond
	host := host(0)
	host.HTTP = sandhogtest.Serve(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	result := host.Run(handle, sandhogtest.Message(body))
	if result.Verdict != sandhog.Retried {
		t.Error(result)
	}
}

func TestWhatIsNoOrderIsRejected(t *testing.T) {
	if result := host(201).Run(handle, sandhogtest.Message("order")); result.Verdict != sandhog.Rejected {
		t.Error(result)
	}
}
