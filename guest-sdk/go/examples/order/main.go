// Invoices orders through an HTTP API, each of them once, and sends their totals to the queue totals.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"sandhog"
	"sandhog/config"
	sandhoghttp "sandhog/http"
	"sandhog/keyvalue"
	"sandhog/worker"
)

func init() { worker.Handle(handle) }

func main() {}

// timeout is the time that the API has to answer.
var timeout = 5 * time.Second

type order struct {
	ID    any    `json:"id"`
	Email string `json:"email"`
	Items []struct{ Price, Quantity float64 }
}

func handle(ctx context.Context, message *sandhog.Message) error {
	var order order
	if err := message.JSON(&order); err != nil {
		return err // no order: a dead letter that says where
	}
	id, total := fmt.Sprint(order.ID), 0.0
	if done, err := keyvalue.Open("orders").Exists(id); done || err != nil {
		return err
	}
	for _, item := range order.Items {
		total += item.Price * item.Quantity
	}
	if err := invoice(ctx, order, total); err != nil {
		return err
	}
	_, err := keyvalue.Open("").Increment("handled", 1)
	sent := sandhog.Send("totals", sandhog.Outgoing{Body: fmt.Appendf(nil, "%v", total)})
	return errors.Join(err, keyvalue.Open("orders").SetText(id, "invoiced"), sent)
}

func invoice(ctx context.Context, order order, total float64) error {
	api, _ := config.Get("api")
	token, _ := config.Get("token")
	body, err := json.Marshal(map[string]any{"order": order.ID, "email": order.Email, "total": total})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, "POST", api+"/invoices", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := (&http.Client{Timeout: timeout}).Do(request)
	if err != nil {
		return err // no answer, or not in time: a retry
	}
	defer response.Body.Close()
	switch status := response.StatusCode; {
	case status == 429 || status == 503:
		return sandhoghttp.RetryAfter(response)
	case status >= 400 && status < 500:
		return sandhog.Reject("the API answered %s", response.Status)
	case status >= 300:
		return sandhog.Retry("the API answered %s", response.Status)
	}
	return nil
}
