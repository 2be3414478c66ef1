{{without http}}
// Totals an order, and sends the total to the queue totals.
{{end}}
{{with http}}
// Totals an order, and sends the total to an API and to the queue totals.
{{end}}
package main

import (
	"context"
	"fmt"
	"log/slog"
{{with http}}
	"net/http"
	"time"
{{end}}

	"sandhog"
{{with config}}
	"sandhog/config"
{{end}}
{{with http}}
	sandhoghttp "sandhog/http"
{{end}}
{{with keyvalue}}
	"sandhog/keyvalue"
{{end}}
	"sandhog/worker"
)

func init() { worker.Handle(handle) }

func main() {}

{{with http without config}}
// The manifest grants it.
const api = "https://api.example.com"

{{end}}
{{with http}}
var client = http.Client{
	Timeout: 5 * time.Second,
	// A redirect that is followed makes a GET of a POST, whose success is none.
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

{{end}}
type order struct {
	ID    any     `json:"id"`
	Items *[]item `json:"items"`
}

type item struct {
	Price    *float64 `json:"price"`
	Quantity *float64 `json:"quantity"`
}

type total struct {
{{without config}}
	ID    any     `json:"id"`
	Total float64 `json:"total"`
{{end}}
{{with http config}}
	ID    any     `json:"id"`
	Total float64 `json:"total"`
{{end}}
{{with config without http}}
	ID       any     `json:"id"`
	Total    float64 `json:"total"`
	Currency string  `json:"currency"`
{{end}}
}

func handle(ctx context.Context, message *sandhog.Message) error {
	var order order
	if err := message.JSON(&order); err != nil {
		return err // not an order: a dead letter that says why
	}
	if order.ID == nil || order.Items == nil {
		return sandhog.Reject("an order has an id and items")
	}
	sum := 0.0
	for _, item := range *order.Items {
		if item.Price == nil || item.Quantity == nil {
			return sandhog.Reject("order %v has an item without a price or a quantity", order.ID)
		}
		sum += *item.Price * *item.Quantity
	}
{{with keyvalue}}
	// What is written is kept if the handler succeeds, and dropped if it fails.
	fresh, err := keyvalue.Open("").CompareAndSet(fmt.Sprintf("order/%v", order.ID), nil, []byte("sent"))
	if err != nil {
		return err
	}
	if !fresh {
		slog.Info(fmt.Sprintf("order %v was sent before", order.ID))
		return nil
	}
{{end}}
{{without http config}}
	outgoing, err := sandhog.JSON(total{order.ID, sum})
{{end}}
{{with config without http}}
	currency, _ := config.Get("currency")
	outgoing, err := sandhog.JSON(total{order.ID, sum, currency})
{{end}}
{{with http}}
	if err := post(ctx, total{order.ID, sum}, message.ID); err != nil {
		return err
	}
	outgoing, err := sandhog.JSON(total{order.ID, sum})
{{end}}
	if err != nil {
		return err
	}
	outgoing = outgoing.With("items", sandhog.Integer(int64(len(*order.Items))))
	if err := sandhog.Send("totals", outgoing); err != nil {
		return err
	}
	slog.Info(fmt.Sprintf("order %v: %d items, %v in total", order.ID, len(*order.Items), sum))
	return nil
}
{{with http}}

// post sends a total to the API. It can come twice, from an attempt that failed later: the key tells the API so.
func post(ctx context.Context, total total, key string) error {
{{end}}
{{with http config}}
	api, _ := config.Get("api")
	token, _ := config.Get("token")
{{end}}
{{with http}}
	request, err := sandhoghttp.NewJSONRequest(ctx, http.MethodPost, api+"/totals", total)
	if err != nil {
		return err
	}
{{end}}
{{with http config}}
	request.Header.Set("Authorization", "Bearer "+token)
{{end}}
{{with http}}
	request.Header.Set("Idempotency-Key", key)
	response, err := client.Do(request)
	if err != nil {
		return err // no answer, or not in time: a retry
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusTooManyRequests {
		return sandhoghttp.RetryAfter(response)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return sandhog.Retry("the API answers %s", response.Status)
	}
	return nil
}
{{end}}
