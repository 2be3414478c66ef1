// Package keyvalue keeps what a handler has to remember from one message to the next.
//
//	orders := keyvalue.Open("orders")
//	if seen, err := orders.Exists(order.ID); seen || err != nil {
//		return err
//	}
//	...
//	return orders.SetText(order.ID, "paid")
//
// The manifest grants it, and a handler that calls a function of this package needs the grant:
//
//	[grant]
//	keyvalue = true
//
// What an attempt writes is a part of the attempt. The attempt reads it at once, and nobody else does: it is stored
// in one transaction with the deletion of the message when the handler returns nil, and dropped when it fails. Of
// two attempts that set the same key, the later one wins; Increment and CompareAndSet lose nothing.
//
// A store belongs to the handler: no other one sees its keys. A key is text of 1 to 1024 bytes, a value any bytes up
// to 1 MiB.
package keyvalue

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"sandhog"
	"sandhog/internal/host"
)

// Error is why an operation failed: a limit, a key or a value that is not acceptable, or, which [errors.Is] tells
// as [sandhog.ErrNotGranted], a missing grant.
type Error struct {
	reason     string
	notGranted bool
}

// Error returns what the host said.
func (e *Error) Error() string {
	return "key-value store: " + e.reason
}

// Is returns whether target is [sandhog.ErrNotGranted] and the grant is missing.
func (e *Error) Is(target error) bool {
	return target == sandhog.ErrNotGranted && e.notGranted
}

// Store is a set of keys with their values. The zero value is the store named default.
type Store struct{ name string }

// Open returns the store of this name, which need not have been there before: at most 256 bytes, and 64 names in
// all.
func Open(name string) Store {
	return Store{strings.ToValidUTF8(name, "\uFFFD")}
}

// Get returns the value of a key, and whether it has one.
func (s Store) Get(key string) (value []byte, found bool, err error) {
	bucket, err := s.bucket(key)
	if err != nil {
		return nil, false, err
	}
	value, found, failed := bucket.Get(key)
	return value, found, errorOf(failed)
}

// GetText is as [Store.Get], for a value that is text.
func (s Store) GetText(key string) (value string, found bool, err error) {
	bytes, found, err := s.Get(key)
	if found && !utf8.Valid(bytes) {
		return "", true, fmt.Errorf("the value of %q is not UTF-8", key)
	}
	return string(bytes), found, err
}

// GetJSON reads a value that is JSON into what into points to, and returns whether the key has one.
func (s Store) GetJSON(key string, into any) (found bool, err error) {
	value, found, err := s.Get(key)
	if !found || err != nil {
		return found, err
	}
	if err := json.Unmarshal(value, into); err != nil {
		return true, fmt.Errorf("the value of %q is not the JSON expected: %w", key, err)
	}
	return true, nil
}

// Set gives a key a value.
func (s Store) Set(key string, value []byte) error {
	bucket, err := s.bucket(key)
	if err != nil {
		return err
	}
	return errorOf(bucket.Set(key, value))
}

// SetText gives a key a text as its value.
func (s Store) SetText(key, value string) error {
	return s.Set(key, []byte(value))
}

// SetJSON gives a key a value's JSON.
func (s Store) SetJSON(key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return s.Set(key, text)
}

// Delete makes a key have no value.
func (s Store) Delete(key string) error {
	bucket, err := s.bucket(key)
	if err != nil {
		return err
	}
	return errorOf(bucket.Delete(key))
}

// Exists returns whether a key has a value.
func (s Store) Exists(key string) (bool, error) {
	bucket, err := s.bucket(key)
	if err != nil {
		return false, err
	}
	exists, failed := bucket.Exists(key)
	return exists, errorOf(failed)
}

// Keys returns the keys that begin with prefix, in the order of their bytes. An error ends them. What the loop sets
// and deletes may be among them or not.
func (s Store) Keys(prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		bucket, err := s.bucket(prefix)
		if err != nil {
			yield("", err)
			return
		}
		for cursor := ""; ; {
			keys, next, failed := bucket.Keys(cursor)
			if failed != nil {
				yield("", errorOf(failed))
				return
			}
			for _, key := range keys {
				if strings.HasPrefix(key, prefix) && !yield(key, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			cursor = next
		}
	}
}

// Increment adds to a number, which is 0 where there is none, and returns the sum as this attempt sees it. Attempts
// that do so at the same time lose nothing. The value is the number's decimal text.
func (s Store) Increment(key string, delta int64) (int64, error) {
	bucket, err := s.bucket(key)
	if err != nil {
		return 0, err
	}
	sum, failed := bucket.Increment(key, delta)
	return sum, errorOf(failed)
}

// CompareAndSet gives a key a value if it has the expected one, or none if expected is nil, and returns whether it
// did. If another attempt changes the key before this one is over, nothing of this attempt happens, and the
// message is tried again.
func (s Store) CompareAndSet(key string, expected, value []byte) (bool, error) {
	bucket, err := s.bucket(key)
	if err != nil {
		return false, err
	}
	set, failed := bucket.CompareAndSet(key, expected, value)
	return set, errorOf(failed)
}

// GetMany returns the values of those keys that have one. It reads one after another.
func (s Store) GetMany(keys ...string) (map[string][]byte, error) {
	values := map[string][]byte{}
	for _, key := range keys {
		value, found, err := s.Get(key)
		if err != nil {
			return nil, err
		}
		if found {
			values[key] = value
		}
	}
	return values, nil
}

// SetMany gives keys values, at most 1000: all of them or, on an error, none.
func (s Store) SetMany(values map[string][]byte) error {
	keys := slices.Sorted(maps.Keys(values))
	bucket, err := s.bucket(keys...)
	if err != nil {
		return err
	}
	entries := make([]host.KeyValueEntry, len(keys))
	for i, key := range keys {
		entries[i] = host.KeyValueEntry{Key: key, Value: values[key]}
	}
	return errorOf(bucket.SetMany(entries))
}

// DeleteMany makes keys have no value, at most 1000: all of them or, on an error, none.
func (s Store) DeleteMany(keys ...string) error {
	bucket, err := s.bucket(keys...)
	if err != nil {
		return err
	}
	return errorOf(bucket.DeleteMany(keys))
}

// bucket opens the store for these keys.
func (s Store) bucket(keys ...string) (opened bucket, err error) {
	for _, key := range keys {
		// Text that is made valid could be the key of something else.
		if !utf8.ValidString(key) {
			return opened, &Error{reason: fmt.Sprintf("the key %q is not UTF-8", key)}
		}
	}
	opened, failed := open(s.name)
	return opened, errorOf(failed)
}

func errorOf(failed *host.KeyValueError) error {
	if failed == nil {
		return nil
	}
	return &Error{failed.Reason, failed.NotGranted}
}
