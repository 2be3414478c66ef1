package sandhog

import (
	"fmt"
	"strconv"

	"sandhog/internal/host"
)

// Attribute is a typed value beside a message's body, under a name.
type Attribute struct {
	Name  string
	Value Value
}

// Value is the value of an attribute: text, a number or bytes. The three kinds are kept apart on every
// kind of queue. Values can be compared with ==. The zero value is empty text.
type Value struct {
	kind host.Kind
	data string
}

// Text makes a value of Unicode text.
func Text(text string) Value {
	return Value{host.Text, text}
}

// Number makes a number from its decimal text, such as "-12.50". It stays text so that no digit is lost
// on the way.
func Number(decimal string) Value {
	return Value{host.Number, decimal}
}

// Integer makes a number from an integer. There is no conversion from floats, because 0.1 + 0.2 has no
// short decimal form and infinity has none at all: give [Number] the digits that are meant.
func Integer(number int64) Value {
	return Value{host.Number, strconv.FormatInt(number, 10)}
}

// Binary makes a value of any bytes.
func Binary(bytes []byte) Value {
	return Value{host.Binary, string(bytes)}
}

// Text returns the text, and false if this is a number or binary.
func (v Value) Text() (string, bool) {
	return v.of(host.Text)
}

// Number returns the decimal text of the number, and false if this is text or binary.
func (v Value) Number() (string, bool) {
	return v.of(host.Number)
}

// Int64 returns the number as an integer, and false if this is not a number or no such integer.
func (v Value) Int64() (int64, bool) {
	number, err := strconv.ParseInt(v.data, 10, 64)
	if v.kind != host.Number || err != nil {
		return 0, false
	}
	return number, true
}

// Float64 returns the number as a float, and false if this is not a number.
func (v Value) Float64() (float64, bool) {
	number, err := strconv.ParseFloat(v.data, 64)
	if v.kind != host.Number || err != nil {
		return 0, false
	}
	return number, true
}

// Binary returns the bytes, and false if this is text or a number.
func (v Value) Binary() ([]byte, bool) {
	data, ok := v.of(host.Binary)
	return []byte(data), ok
}

// String returns the value for people to read.
func (v Value) String() string {
	if v.kind == host.Binary {
		return fmt.Sprintf("%x", v.data)
	}
	return v.data
}

func (v Value) of(kind host.Kind) (string, bool) {
	if v.kind != kind {
		return "", false
	}
	return v.data, true
}
