package host

// KeyValueError is why an operation of a key-value store failed.
type KeyValueError struct {
	NotGranted bool
	Reason     string
}

// KeyValueEntry is a key with its value.
type KeyValueEntry struct {
	Key   string
	Value []byte
}

// KeyValue opens the stores of a handler. Every text passed to it is UTF-8.
type KeyValue interface {
	Open(store string) (Bucket, *KeyValueError)
}

// Bucket is a store that was opened.
type Bucket interface {
	Get(key string) (value []byte, found bool, err *KeyValueError)
	Set(key string, value []byte) *KeyValueError
	Delete(key string) *KeyValueError
	Exists(key string) (bool, *KeyValueError)
	// Keys returns a page of keys. The cursor of the first page is empty, as is the next one of the last.
	Keys(cursor string) (keys []string, next string, err *KeyValueError)
	Increment(key string, delta int64) (int64, *KeyValueError)
	// CompareAndSet returns whether the value was the expected one. There is none expected if expected is nil.
	CompareAndSet(key string, expected, value []byte) (bool, *KeyValueError)
	SetMany(entries []KeyValueEntry) *KeyValueError
	DeleteMany(keys []string) *KeyValueError
}

// CurrentKeyValue has the key-value stores of the host that the handler runs on.
var CurrentKeyValue KeyValue = noKeyValue{}

type noKeyValue struct{}

func (noKeyValue) Open(string) (Bucket, *KeyValueError) {
	return nil, &KeyValueError{Reason: noHostReason}
}
