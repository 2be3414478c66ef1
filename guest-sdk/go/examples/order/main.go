// Invoices orders through an HTTP API, each of them once, and sends their totals to the queue totals.
package main

import (
	"context"
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

type order struct {
	ID    any
	Email string
	Items []struct{ Price, Quantity float64 }
}

var client = http.Client{
	Timeout: 5 * time.Second,
	// One that is followed makes a GET of a POST, whose success is no invoice.
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func init() { worker.Handle(handle) }

func main() {}

func handle(ctx context.Context, message *sandhog.Message) error {
	var order order
	if err := message.JSON(&order); err != nil {
		return err // no order: a dead letter that says where
	}
	fresh, err := keyvalue.Open("orders").CompareAndSet(fmt.Sprint(order.ID), nil, []byte("invoiced"))
	if !fresh || err != nil {
		return err // invoiced before; what is noted here counts only if this attempt succeeds
	}
	total := 0.0
	for _, item := range order.Items {
		total += item.Price * item.Quantity
	}
	invoice := map[string]any{"id": order.ID, "email": order.Email, "total": total}
	api, _ := config.Get("api")
	token, _ := config.Get("token")
	request, err := sandhoghttp.NewJSONRequest(ctx, http.MethodPost, api+"/invoices", invoice)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := client.Do(request)
	if err != nil {
		return err // no answer, or not in time: a retry
	}
	defer response.Body.Close()
	if err := sandhoghttp.Check(response); err != nil {
		return err // a retry when the API asks for it, a dead letter if the order is at fault
	}
	_, err = keyvalue.Open("").Increment("handled", 1)
	return errors.Join(err, sandhog.Send("totals", sandhog.Outgoing{Body: fmt.Append(nil, total)}))
}
