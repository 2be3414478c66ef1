package sandhogtest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"sandhog/internal/host"
)

// Stores is what key-value stores hold: values by their keys by the names of the stores. The store that has no name
// is default.
type Stores map[string]map[string]string

func (s Stores) clone() Stores {
	if s == nil {
		return nil
	}
	stores := Stores{}
	for name, values := range s {
		stores[name] = maps.Clone(values)
	}
	return stores
}

// Open opens a store. It is for the SDK.
func (s Stores) Open(name string) (host.Bucket, *host.KeyValueError) {
	if s == nil {
		reason := "it is not granted: add keyvalue to [grant] of the manifest, and KeyValue to the Host of the test"
		return nil, &host.KeyValueError{NotGranted: true, Reason: reason}
	}
	if name == "" {
		name = "default"
	}
	if len(name) > 256 {
		return nil, &host.KeyValueError{Reason: fmt.Sprintf("a name of %d bytes: at most 256", len(name))}
	}
	if s[name] == nil {
		s[name] = map[string]string{}
	}
	return bucket(s[name]), nil
}

type bucket map[string]string

func (b bucket) Get(key string) ([]byte, bool, *host.KeyValueError) {
	value, found := b[key]
	if !found {
		return nil, false, checkKey(key)
	}
	return []byte(value), true, nil
}

func (b bucket) Set(key string, value []byte) *host.KeyValueError {
	return b.SetMany([]host.KeyValueEntry{{Key: key, Value: value}})
}

func (b bucket) Delete(key string) *host.KeyValueError {
	return b.DeleteMany([]string{key})
}

func (b bucket) Exists(key string) (bool, *host.KeyValueError) {
	_, found := b[key]
	return found, checkKey(key)
}

func (b bucket) Keys(string) ([]string, string, *host.KeyValueError) {
	return slices.Sorted(maps.Keys(b)), "", nil
}

func (b bucket) Increment(key string, delta int64) (int64, *host.KeyValueError) {
	number := int64(0)
	if value, found := b[key]; found {
		parsed, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return 0, &host.KeyValueError{Reason: fmt.Sprintf("the value of %q is no number", key)}
		}
		number = parsed
	}
	if delta > 0 && number > math.MaxInt64-delta || delta < 0 && number < math.MinInt64-delta {
		return 0, &host.KeyValueError{Reason: fmt.Sprintf("the sum of %d and %d is out of range", number, delta)}
	}
	number += delta
	return number, b.Set(key, strconv.AppendInt(nil, number, 10))
}

func (b bucket) CompareAndSet(key string, expected, value []byte) (bool, *host.KeyValueError) {
	current, found := b[key]
	if found != (expected != nil) || current != string(expected) {
		return false, checkKey(key)
	}
	err := b.Set(key, value)
	return err == nil, err
}

func (b bucket) SetMany(entries []host.KeyValueEntry) *host.KeyValueError {
	for _, entry := range entries {
		if err := checkKey(entry.Key); err != nil {
			return err
		}
		if len(entry.Value) > 1<<20 {
			return &host.KeyValueError{Reason: fmt.Sprintf("a value of %d bytes: at most %d", len(entry.Value), 1<<20)}
		}
	}
	if err := checkCount(len(entries)); err != nil {
		return err
	}
	for _, entry := range entries {
		b[entry.Key] = string(entry.Value)
	}
	return nil
}

func (b bucket) DeleteMany(keys []string) *host.KeyValueError {
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return err
		}
	}
	if err := checkCount(len(keys)); err != nil {
		return err
	}
	for _, key := range keys {
		delete(b, key)
	}
	return nil
}

func checkKey(key string) *host.KeyValueError {
	if key == "" || len(key) > 1024 {
		return &host.KeyValueError{Reason: fmt.Sprintf("a key of %d bytes: use 1 to 1024", len(key))}
	}
	return nil
}

func checkCount(count int) *host.KeyValueError {
	if count > 1000 {
		return &host.KeyValueError{Reason: fmt.Sprintf("%d keys: at most 1000 in one call", count)}
	}
	return nil
}
