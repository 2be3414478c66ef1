//go:build wasip1

package abi

import (
	"bytes"
	"runtime"
	"unsafe"

	"sandhog/internal/host"
)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 open
//go:noescape
func importOpen(identifier string, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.get
//go:noescape
func importBucketGet(bucket uint32, key string, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.set
//go:noescape
func importBucketSet(bucket uint32, key string, value, valueLength uint32, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.delete
//go:noescape
func importBucketDelete(bucket uint32, key string, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.exists
//go:noescape
func importBucketExists(bucket uint32, key string, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.list-keys
//go:noescape
func importBucketListKeys(bucket, hasCursor uint32, cursor string, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 increment
//go:noescape
func importIncrement(bucket uint32, key string, delta int64, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 [static]cas.new
//go:noescape
func importCasNew(bucket uint32, key string, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 [method]cas.current
//go:noescape
func importCasCurrent(cas uint32, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 [resource-drop]cas
func dropCas(cas uint32)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 swap
//go:noescape
func importSwap(cas, value, valueLength uint32, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/batch@0.2.0-draft2 set-many
//go:noescape
func importSetMany(bucket, entries, length uint32, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/batch@0.2.0-draft2 delete-many
//go:noescape
func importDeleteMany(bucket, keys, length uint32, result unsafe.Pointer)

type wireText struct{ text, length uint32 }

type wireEntry struct {
	key, keyLength     uint32
	value, valueLength uint32
}

// Bucket is a key-value store that was opened. It fulfils host.Bucket.
type Bucket uint32

// opened are the stores that were opened, by their names. They stay open.
var opened = map[string]Bucket{}

// OpenBucket opens a store.
func OpenBucket(store string) (Bucket, *host.KeyValueError) {
	if bucket, ok := opened[store]; ok {
		return bucket, nil
	}
	bucket, err := askStore(func(result unsafe.Pointer) { importOpen(store, result) }, 1, func(answer *words) Bucket {
		return Bucket(answer[1])
	})
	if err == nil {
		opened[store] = bucket
	}
	return bucket, err
}

// Get returns a value, and whether there is one.
func (b Bucket) Get(key string) ([]byte, bool, *host.KeyValueError) {
	value, err := askStore(func(result unsafe.Pointer) { importBucketGet(uint32(b), key, result) }, 1, (*words).value)
	return value, value != nil, err
}

// Set sets a value.
func (b Bucket) Set(key string, value []byte) *host.KeyValueError {
	address, length := addressOfList(value)
	return tell(func(result unsafe.Pointer) {
		importBucketSet(uint32(b), key, address, length, result)
		runtime.KeepAlive(value)
	})
}

// Delete deletes a value.
func (b Bucket) Delete(key string) *host.KeyValueError {
	return tell(func(result unsafe.Pointer) { importBucketDelete(uint32(b), key, result) })
}

// Exists returns whether there is a value.
func (b Bucket) Exists(key string) (bool, *host.KeyValueError) {
	return askStore(func(result unsafe.Pointer) { importBucketExists(uint32(b), key, result) }, 1, func(answer *words) bool {
		return answer.byte(1) != 0
	})
}

// Keys returns a page of keys.
func (b Bucket) Keys(cursor string) (keys []string, next string, err *host.KeyValueError) {
	keys, err = askStore(func(result unsafe.Pointer) {
		importBucketListKeys(uint32(b), presence(cursor != ""), cursor, result)
	}, 1, func(answer *words) []string {
		var page []string
		for _, key := range listAt[wireText](answer[1], answer[2]) {
			page = append(page, textAt(key.text, key.length))
		}
		if answer.byte(3) != 0 {
			next = answer.text(4)
		}
		return page
	})
	return keys, next, err
}

// Increment adds to a number.
func (b Bucket) Increment(key string, delta int64) (int64, *host.KeyValueError) {
	add := func(result unsafe.Pointer) { importIncrement(uint32(b), key, delta, result) }
	return askStore(add, 2, func(answer *words) int64 { return int64(answer.uint64(2)) })
}

// CompareAndSet sets a value if it is the expected one.
func (b Bucket) CompareAndSet(key string, expected, value []byte) (bool, *host.KeyValueError) {
	note := func(result unsafe.Pointer) { importCasNew(uint32(b), key, result) }
	cas, err := askStore(note, 1, func(answer *words) uint32 { return answer[1] })
	if err != nil {
		return false, err
	}
	current, err := askStore(func(result unsafe.Pointer) { importCasCurrent(cas, result) }, 1, (*words).value)
	if err != nil || (current == nil) != (expected == nil) || !bytes.Equal(current, expected) {
		dropCas(cas)
		return false, err
	}
	return swap(cas, value)
}

// swap sets a value unless the key has another one than was noted, and gives up the note.
func swap(cas uint32, value []byte) (swapped bool, err *host.KeyValueError) {
	address, length := addressOfList(value)
	var changed uint32
	swapped = ask(func(result unsafe.Pointer) {
		importSwap(cas, address, length, result)
		runtime.KeepAlive(value)
	}, func(answer *words) bool {
		const storeError = 0
		switch {
		case answer.byte(0) == 0:
			return true
		case answer.byte(1) == storeError:
			err = answer.keyValueError(2)
		default:
			changed = answer[2]
		}
		return false
	})
	if changed != 0 {
		dropCas(changed)
	}
	return swapped, err
}

// SetMany sets values, all or none.
func (b Bucket) SetMany(entries []host.KeyValueEntry) *host.KeyValueError {
	wire := make([]wireEntry, len(entries))
	for i, entry := range entries {
		wire[i].key, wire[i].keyLength = addressOfText(entry.Key)
		wire[i].value, wire[i].valueLength = addressOfList(entry.Value)
	}
	address, length := addressOfList(wire)
	return tell(func(result unsafe.Pointer) {
		importSetMany(uint32(b), address, length, result)
		runtime.KeepAlive(wire)
		runtime.KeepAlive(entries)
	})
}

// DeleteMany deletes values, all or none.
func (b Bucket) DeleteMany(keys []string) *host.KeyValueError {
	wire := make([]wireText, len(keys))
	for i, key := range keys {
		wire[i].text, wire[i].length = addressOfText(key)
	}
	address, length := addressOfList(wire)
	return tell(func(result unsafe.Pointer) {
		importDeleteMany(uint32(b), address, length, result)
		runtime.KeepAlive(wire)
		runtime.KeepAlive(keys)
	})
}

// askStore makes a call whose answer is an error, which begins at a word, or something to read.
func askStore[T any](call func(answer unsafe.Pointer), at int, read func(*words) T) (T, *host.KeyValueError) {
	var err *host.KeyValueError
	answer := ask(call, func(answer *words) T {
		var none T
		if answer.byte(0) != 0 {
			err = answer.keyValueError(at)
			return none
		}
		return read(answer)
	})
	return answer, err
}

// tell makes a call that answers with an error or nothing.
func tell(call func(answer unsafe.Pointer)) *host.KeyValueError {
	_, err := askStore(call, 1, func(*words) struct{} { return struct{}{} })
	return err
}

// value reads a value that may be absent, which is nil.
func (w *words) value() []byte {
	if w.byte(1) == 0 {
		return nil
	}
	return w.bytes(2)
}

// keyValueError reads a variant error of wasi:keyvalue.
func (w *words) keyValueError(at int) *host.KeyValueError {
	const noSuchStore, accessDenied = 0, 1
	switch w.byte(at) {
	case noSuchStore:
		return &host.KeyValueError{Reason: "there is no such store"}
	case accessDenied:
		return &host.KeyValueError{NotGranted: true, Reason: "a key-value store"}
	}
	return &host.KeyValueError{Reason: w.text(at + 1)}
}
