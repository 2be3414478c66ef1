package keyvalue_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"sandhog"
	"sandhog/keyvalue"
	"sandhog/sandhogtest"
)

// run runs a function with stores, and returns what they hold then.
func run(t *testing.T, stores sandhogtest.Stores, use func(store keyvalue.Store) error) sandhogtest.Stores {
	t.Helper()
	result := sandhogtest.Host{KeyValue: stores}.Run(func(context.Context, *sandhog.Message) error {
		return use(keyvalue.Open("s"))
	}, sandhogtest.Message(""))
	if result.Verdict != sandhog.Succeeded {
		t.Error(result.Reason)
	}
	return result.KeyValue
}

func TestAnAttemptReadsWhatItWrites(t *testing.T) {
	given := sandhogtest.Stores{"s": {"a": "1", "gone": "x"}}
	left := run(t, given, func(store keyvalue.Store) error {
		value, found, err := store.GetText("a")
		if value != "1" || !found || err != nil {
			t.Error(value, found, err)
		}
		if err := errors.Join(store.SetText("b", "2"), store.Delete("gone"), store.Set("empty", nil)); err != nil {
			return err
		}
		if exists, err := store.Exists("gone"); exists || err != nil {
			t.Error(exists, err)
		}
		if value, found, err := store.Get("empty"); len(value) != 0 || !found || err != nil {
			t.Error(value, found, err)
		}
		if _, found, err := store.Get("none"); found || err != nil {
			t.Error(found, err)
		}
		return keyvalue.Store{}.SetText("c", "3")
	})
	if !maps.Equal(left["s"], map[string]string{"a": "1", "b": "2", "empty": ""}) || left["default"]["c"] != "3" {
		t.Error(left)
	}
	if len(given["s"]) != 2 {
		t.Error("the given stores have changed", given)
	}
}

func TestAValueIsReadAsWhatItIs(t *testing.T) {
	run(t, sandhogtest.Stores{"s": {"json": `{"A": 7}`, "bytes": "\xff"}}, func(store keyvalue.Store) error {
		var value struct{ A int }
		if found, err := store.GetJSON("json", &value); !found || err != nil || value.A != 7 {
			t.Error(value, found, err)
		}
		if _, err := store.GetJSON("bytes", &value); err == nil || !strings.Contains(err.Error(), `"bytes"`) {
			t.Error(err)
		}
		if _, _, err := store.GetText("bytes"); err == nil {
			t.Error("bytes are read as text")
		}
		return store.SetJSON("json", value)
	})
}

func TestKeysAreThoseWithThePrefix(t *testing.T) {
	run(t, sandhogtest.Stores{"s": {"b/2": "", "a": "", "b/1": ""}}, func(store keyvalue.Store) error {
		var keys []string
		for key, err := range store.Keys("b/") {
			if err != nil {
				return err
			}
			keys = append(keys, key)
		}
		if !slices.Equal(keys, []string{"b/1", "b/2"}) {
			t.Error(keys)
		}
		for range store.Keys("") {
			break
		}
		return nil
	})
}

func TestACounterBeginsAtZero(t *testing.T) {
	run(t, sandhogtest.Stores{"s": {"text": "many"}}, func(store keyvalue.Store) error {
		if sum, err := store.Increment("n", -2); sum != -2 || err != nil {
			t.Error(sum, err)
		}
		if sum, err := store.Increment("n", 5); sum != 3 || err != nil {
			t.Error(sum, err)
		}
		if _, err := store.Increment("n", 1<<63-1); err == nil {
			t.Error("the sum is out of range")
		}
		if _, err := store.Increment("text", 1); err == nil {
			t.Error("a text is a number")
		}
		return nil
	})
}

func TestAValueIsReplacedOnlyIfItIsTheExpectedOne(t *testing.T) {
	left := run(t, sandhogtest.Stores{"s": {"a": "1", "empty": ""}}, func(store keyvalue.Store) error {
		for _, c := range []struct {
			key      string
			expected []byte
			set      bool
		}{
			{"a", []byte("2"), false}, {"a", nil, false}, {"a", []byte("1"), true},
			{"none", []byte{}, false}, {"none", nil, true},
			{"empty", nil, false}, {"empty", []byte{}, true},
		} {
			set, err := store.CompareAndSet(c.key, c.expected, []byte("new"))
			if set != c.set || err != nil {
				t.Error(c, set, err)
			}
		}
		return nil
	})
	if left["s"]["a"] != "new" || left["s"]["none"] != "new" || left["s"]["empty"] != "new" {
		t.Error(left)
	}
}

func TestManyKeysAreSetAllOrNone(t *testing.T) {
	left := run(t, sandhogtest.Stores{}, func(store keyvalue.Store) error {
		err := store.SetMany(map[string][]byte{"a": []byte("1"), strings.Repeat("k", 1025): nil})
		var failed *keyvalue.Error
		if !errors.As(err, &failed) || !strings.Contains(err.Error(), "1025 bytes") {
			t.Error(err)
		}
		if values, err := store.GetMany("a"); len(values) != 0 || err != nil {
			t.Error(values, err)
		}
		if err := store.SetMany(map[string][]byte{"a": []byte("1"), "b": []byte("2"), "c": nil}); err != nil {
			return err
		}
		if values, err := store.GetMany("a", "none", "c"); len(values) != 2 || string(values["a"]) != "1" || err != nil {
			t.Error(values, err)
		}
		return store.DeleteMany("a", "c", "none")
	})
	if !maps.Equal(left["s"], map[string]string{"b": "2"}) {
		t.Error(left)
	}
}

func TestAKeyThatIsNotUTF8IsRefusedAndNotMadeAnotherOne(t *testing.T) {
	run(t, sandhogtest.Stores{}, func(store keyvalue.Store) error {
		if err := store.SetText("\xff", ""); err == nil {
			t.Error("the key is taken")
		}
		return nil
	})
}

func TestAStoreThatIsNotGrantedIsARetry(t *testing.T) {
	result := sandhogtest.Run(func(context.Context, *sandhog.Message) error {
		_, _, err := keyvalue.Open("s").Get("a")
		if !errors.Is(err, sandhog.ErrNotGranted) {
			t.Error(err)
		}
		return err
	}, sandhogtest.Message(""))
	if result.Verdict != sandhog.Retried || !strings.Contains(result.Reason, "add keyvalue to [grant]") {
		t.Error(result)
	}
}
