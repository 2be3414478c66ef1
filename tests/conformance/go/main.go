// Does what the body says, so that one set of claims can be checked against every language.
package main

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sandhog"
	"sandhog/worker"
)

func init() { worker.Handle(handle) }

func main() {}

func handle(ctx context.Context, message *sandhog.Message) error {
	command, rest, _ := strings.Cut(string(message.Body), " ")
	if !utf8.Valid(message.Body) {
		command = ""
	}
	switch command {
	case "ok":
		return nil
	case "retry":
		return sandhog.Retry("%s", rest)
	case "retry-after":
		seconds, why, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(seconds)
		if err != nil {
			return err
		}
		return sandhog.RetryAfter(time.Duration(n)*time.Second, "%s", why)
	case "reject":
		return sandhog.Reject("%s", rest)
	case "crash":
		panic("told to crash")
	case "wait":
		n, err := strconv.Atoi(rest)
		if err != nil {
			return err
		}
		time.Sleep(time.Duration(n) * time.Millisecond)
		return nil
	case "log":
		slog.Info(rest)
		return nil
	case "echo":
		return sandhog.Send("out", sandhog.Outgoing{Body: message.Body, Attributes: message.Attributes, GroupID: message.GroupID})
	case "send-all":
		return sendAll()
	case "facts":
		return facts(message)
	case "denied":
		err := sandhog.Send("elsewhere", sandhog.Outgoing{Body: []byte("x")})
		if errors.Is(err, sandhog.ErrNotGranted) {
			return sandhog.Reject("not-granted")
		}
		return err
	}
	return sandhog.Send("out", sandhog.Outgoing{Body: strconv.AppendInt(nil, int64(len(message.Body)), 10)})
}

func sendAll() error {
	one := sandhog.Outgoing{Body: []byte("one")}.
		With("t", sandhog.Text("täxt")).
		With("n", sandhog.Number("-12.50")).
		With("b", sandhog.Binary([]byte{0, 0xff}))
	return sandhog.SendMany("out", []sandhog.Outgoing{
		one,
		{Body: []byte("two"), Delay: time.Second, Priority: 9},
		{Body: []byte("three"), GroupID: "g", DeduplicationID: "d"},
	})
}

func facts(message *sandhog.Message) error {
	var group *string
	if message.GroupID != "" {
		group = &message.GroupID
	}
	outgoing, err := sandhog.JSON(struct {
		ID           string  `json:"id"`
		Queue        string  `json:"queue"`
		ReceiveCount uint32  `json:"receive-count"`
		Group        *string `json:"group"`
		Length       int     `json:"length"`
	}{message.ID, message.Queue, message.ReceiveCount, group, len(message.Body)})
	if err != nil {
		return err
	}
	return sandhog.Send("out", outgoing)
}
