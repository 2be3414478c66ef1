// Mails invoices through the HTTP API of a mail service, each of them once.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"net/http"
	"strings"
	"text/template"
	"time"

	"sandhog"
	"sandhog/config"
	sandhoghttp "sandhog/http"
	"sandhog/keyvalue"
	"sandhog/worker"
)

func init() { worker.Handle(handle) }

func main() {}

// client gives the mail service five seconds, and does not follow it elsewhere.
var client = &http.Client{
	Timeout:       5 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

//go:embed invoice.txt
var text string

var page = template.Must(template.New("invoice").Parse(text))

type invoice struct {
	Number string  `json:"number"`
	Name   string  `json:"name"`
	Email  string  `json:"email"`
	Due    string  `json:"due"`
	Total  float64 `json:"total"`
}

func handle(ctx context.Context, message *sandhog.Message) error {
	var invoice invoice
	if err := message.JSON(&invoice); err != nil {
		return err
	}
	if invoice.Number == "" || !strings.Contains(invoice.Email, "@") {
		return sandhog.Reject("an invoice has a number and an email address")
	}
	mailed := keyvalue.Open("mailed")
	this, last := months(now())
	for _, month := range []string{this, last} {
		if done, err := mailed.Exists(month + " " + invoice.Number); done || err != nil {
			return err
		}
	}
	var body bytes.Buffer
	if err := page.Execute(&body, invoice); err != nil {
		return err
	}
	if err := mail(ctx, invoice, body.String()); err != nil {
		return err
	}
	if err := forget(mailed, last); err != nil {
		return err
	}
	return mailed.SetText(this+" "+invoice.Number, now().UTC().Format(time.RFC3339))
}

// now is the clock, which tests set.
var now = time.Now

// months returns the month of a time and the one before. The keys of the invoices that were mailed begin with their month.
func months(t time.Time) (this, last string) {
	const month = "2006-01"
	t = t.UTC()
	return t.Format(month), time.Date(t.Year(), t.Month()-1, 1, 0, 0, 0, 0, time.UTC).Format(month)
}

// forget deletes invoices that were mailed before a month, the oldest first: their keys come in the order of their bytes. It
// deletes a few at a time, but more than the one that is added.
func forget(mailed keyvalue.Store, month string) error {
	var old []string
	for key, err := range mailed.Keys("") {
		if err != nil {
			return err
		}
		if key >= month || len(old) == 20 {
			break
		}
		old = append(old, key)
	}
	return mailed.DeleteMany(old...)
}

// mail asks the service to send a mail. The number of the invoice keeps the service from sending it twice, should the host die
// between its answer and the deletion of the message.
func mail(ctx context.Context, invoice invoice, text string) error {
	service, _ := config.Get("service")
	token, _ := config.Get("token")
	body, err := json.Marshal(map[string]string{
		"to": invoice.Email, "subject": "Invoice " + invoice.Number, "text": text,
	})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, service, bytes.NewReader(body))
	if err != nil {
		return sandhog.Retry("the manifest has no usable address for service: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", invoice.Number)
	response, err := client.Do(request)
	if err != nil {
		return sandhog.Retry("%w", err)
	}
	defer response.Body.Close()
	return verdict(response)
}

func verdict(response *http.Response) error {
	switch status := response.StatusCode; {
	case status < 300:
		return nil
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		return sandhoghttp.RetryAfter(response)
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status >= 500:
		return sandhog.Retry("the mail service answers %s", response.Status)
	}
	return sandhog.Reject("the mail service answers %s", response.Status)
}
