package sandhog

import (
	"errors"
	"fmt"
	"time"
)

// Verdict is what becomes of a message.
type Verdict int

const (
	// Succeeded: the message is deleted, and what was sent goes out.
	Succeeded Verdict = iota
	// Retried: the message becomes visible again after a growing delay, until the queue's limit of
	// receives is reached.
	Retried
	// RetriedAfter: as Retried, but after a delay of the handler's choice.
	RetriedAfter
	// Rejected: the message goes to the dead-letter queue at once.
	Rejected
)

// String returns the verdict in the words of the contract.
func (v Verdict) String() string {
	switch v {
	case Succeeded:
		return "success"
	case Retried:
		return "retry"
	case RetriedAfter:
		return "retry-after"
	case Rejected:
		return "reject"
	}
	return fmt.Sprintf("verdict %d", int(v))
}

// Failure is the error that says why a message was not handled and what becomes of it. Make one with
// [Retry], [RetryAfter] or [Reject]. It may be wrapped: what wraps it is part of the reason.
type Failure struct {
	// Verdict is Retried, RetriedAfter or Rejected.
	Verdict Verdict
	// Delay is that of RetriedAfter: 0 to 12 hours; a longer one counts as 12 hours. A fraction of a
	// second is rounded up.
	Delay time.Duration

	reason error
}

// Error returns the reason. It is for people: it is logged, and kept with a dead letter.
func (f *Failure) Error() string {
	return f.reason.Error()
}

// Unwrap returns what the reason wraps, if it was made with %w.
func (f *Failure) Unwrap() error {
	return errors.Unwrap(f.reason)
}

// Retry makes an error for something that may pass: the message becomes visible again after a growing
// delay. The reason is formatted as by [fmt.Errorf].
func Retry(format string, arguments ...any) error {
	return &Failure{Verdict: Retried, reason: fmt.Errorf(format, arguments...)}
}

// RetryAfter is as [Retry], but after this delay, 0 to 12 hours.
func RetryAfter(delay time.Duration, format string, arguments ...any) error {
	return &Failure{Verdict: RetriedAfter, Delay: delay, reason: fmt.Errorf(format, arguments...)}
}

// Reject makes an error for something that will never pass: the message goes to the dead-letter queue at
// once. The reason is formatted as by [fmt.Errorf].
func Reject(format string, arguments ...any) error {
	return &Failure{Verdict: Rejected, reason: fmt.Errorf(format, arguments...)}
}

// VerdictOf returns what becomes of a message whose handler returned err, and the delay of RetriedAfter.
//
// An error of [Send] that is not wrapped in a failure is retried if the manifest lacks the grant, since
// an operator can add it while the messages wait, and rejected otherwise, since the same message would
// fail again. Any other error is retried.
func VerdictOf(err error) (Verdict, time.Duration) {
	var failure *Failure
	switch {
	case err == nil:
		return Succeeded, 0
	case errors.As(err, &failure):
		return failure.Verdict, failure.Delay
	case errors.Is(err, ErrInvalid), errors.Is(err, ErrLimit):
		return Rejected, 0
	}
	return Retried, 0
}
