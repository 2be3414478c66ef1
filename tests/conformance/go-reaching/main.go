// Reaches out as the first word of the body says, so that one set of tests serves every language.
package main

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"sandhog"
	"sandhog/config"
	_ "sandhog/http"
	"sandhog/keyvalue"
	"sandhog/worker"
)

func init() { worker.Handle(handle) }

func main() {}

func handle(ctx context.Context, message *sandhog.Message) error {
	words := append(strings.Split(string(message.Body), " "), "", "", "")
	answer, err := obey(ctx, words[0], words[1], words[2], words[3])
	if err != nil || answer == "" {
		return err
	}
	return sandhog.Send("out", sandhog.Outgoing{Body: []byte(answer)})
}

func obey(ctx context.Context, word, first, second, third string) (string, error) {
	store := keyvalue.Open("")
	number, _ := strconv.Atoi(second)
	switch word {
	case "get":
		return request(ctx, "GET", first, nil), nil
	case "late":
		ctx, cancel := context.WithTimeout(ctx, time.Duration(number)*time.Millisecond)
		defer cancel()
		return request(ctx, "GET", first, nil), nil
	case "post":
		return request(ctx, "POST", first, strings.NewReader(strings.Repeat("x", number))), nil
	case "many":
		return many(first, number)
	case "together":
		return together(first, number)
	case "set":
		return "", store.SetText(first, second)
	case "lose":
		if err := store.SetText(first, second); err != nil {
			return "", err
		}
		return "", sandhog.Retry("lost")
	case "read":
		value, found, err := store.GetText(first)
		if !found {
			value = "nothing"
		}
		return value, err
	case "count":
		sum, err := store.Increment(first, 1)
		return strconv.FormatInt(sum, 10), err
	case "swap":
		expected := []byte(second)
		if second == "-" {
			expected = nil
		}
		swapped, err := store.CompareAndSet(first, expected, []byte(third))
		return strconv.FormatBool(swapped), err
	case "keys":
		var keys []string
		for key, err := range store.Keys(first) {
			if err != nil {
				return "", err
			}
			keys = append(keys, key)
		}
		return strings.Join(keys, " "), nil
	case "config":
		value, found := config.Get(first)
		if !found {
			value = "nothing"
		}
		return value, nil
	case "env":
		value, found := os.LookupEnv(first)
		if !found {
			value = "nothing"
		}
		return value, nil
	case "clock":
		return strconv.FormatInt(time.Now().UnixMilli(), 10), nil
	case "random":
		return fmt.Sprint(rand.Uint64(), " ", cryptorand.Text()), nil
	case "file":
		text, err := os.ReadFile(first)
		if err != nil {
			text = []byte("nothing")
		}
		return string(text), nil
	}
	panic("told to crash")
}

func request(ctx context.Context, method, url string, body io.Reader) string {
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err.Error()
	}
	response, err := http.DefaultClient.Do(request)
	switch {
	case errors.Is(err, sandhog.ErrNotGranted):
		return "not-granted"
	case os.IsTimeout(err):
		return "timeout"
	case err != nil:
		return "connection"
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	if len(text) > 20 {
		return fmt.Sprint(response.StatusCode, " ", len(text))
	}
	return fmt.Sprint(response.StatusCode, " ", string(text))
}

func many(url string, times int) (string, error) {
	good := 0
	for range times {
		response, err := http.Get(url)
		if err != nil {
			return "", err
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			good++
		}
	}
	return strconv.Itoa(good), nil
}

func together(url string, times int) (string, error) {
	answers := make(chan error)
	for range times {
		go func() {
			response, err := http.Get(url)
			if err == nil {
				response.Body.Close()
			}
			answers <- err
		}()
	}
	good := 0
	for range times {
		if err := <-answers; err != nil {
			return "", err
		}
		good++
	}
	return strconv.Itoa(good), nil
}
