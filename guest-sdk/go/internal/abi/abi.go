//go:build wasip1

// Package abi speaks with the host in the canonical ABI of the component model.
//
// Addresses are 32 bits there and pointers 64 bits in Go, so records are laid out by hand. Go's collector
// does not move what it manages, and what a record points to is kept alive by hand until the host has
// read it.
package abi

import (
	"runtime"
	"sync"
	"unsafe"

	"sandhog/internal/host"
)

type wireAttribute struct {
	name, nameLength   uint32
	kind               uint32
	value, valueLength uint32
}

// WireMessage is a message in the list that a batch handler gets.
type WireMessage struct {
	id, idLength                 uint32
	body, bodyLength             uint32
	attributes, attributesLength uint32
	queue, queueLength           uint32
	receiveCount                 uint32
	_                            uint32
	sentAtMs                     uint64
	hasGroupID                   uint32
	groupID, groupIDLength       uint32
	_                            uint32
}

type wireOutgoing struct {
	body, bodyLength                       uint32
	attributes, attributesLength           uint32
	hasDelay, delaySeconds                 uint32
	hasGroupID                             uint32
	groupID, groupIDLength                 uint32
	hasDeduplicationID                     uint32
	deduplicationID, deduplicationIDLength uint32
	// priority is two bytes: whether there is one, and which.
	priority uint32
}

// WireResult is what a handler answers for one message.
type WireResult struct {
	isError              uint32
	failure              uint32
	reason, reasonLength uint32
	delaySeconds         uint32
}

type wireSent struct {
	isError              uint32
	kind                 uint32
	reason, reasonLength uint32
}

// answer is what a call has returned, kept until the next one: the host reads it when the call is over.
var answer struct {
	results []WireResult
	reasons []string
	list    [2]uint32
}

// Handle runs a handler on the message that the host passed, and returns its result for the host.
func Handle(handler func(host.Message) host.Outcome, id, idLength, body, bodyLength, attributes, attributesLength, queue,
	queueLength, receiveCount uint32, sentAtMs uint64, hasGroupID, groupID, groupIDLength uint32) unsafe.Pointer {
	results := handleAll(func(messages []host.Message) []host.Outcome {
		return []host.Outcome{handler(messages[0])}
	}, []WireMessage{{
		id: id, idLength: idLength, body: body, bodyLength: bodyLength, attributes: attributes,
		attributesLength: attributesLength, queue: queue, queueLength: queueLength, receiveCount: receiveCount,
		sentAtMs: sentAtMs, hasGroupID: hasGroupID, groupID: groupID, groupIDLength: groupIDLength,
	}})
	return unsafe.Pointer(unsafe.SliceData(results))
}

// HandleBatch runs a batch handler on the messages that the host passed, and returns its results for the
// host.
func HandleBatch(handler func([]host.Message) []host.Outcome, messages, length uint32) unsafe.Pointer {
	results := handleAll(handler, listAt[WireMessage](messages, length))
	answer.list[0], answer.list[1] = addressOfList(results)
	return unsafe.Pointer(&answer.list)
}

func handleAll(handler func([]host.Message) []host.Outcome, wire []WireMessage) []WireResult {
	messages := make([]host.Message, len(wire))
	for i := range wire {
		messages[i] = lift(&wire[i])
	}
	messageUsed = 0
	defer reportPanic()
	outcomes := handler(messages)
	answer.results = make([]WireResult, len(outcomes))
	answer.reasons = make([]string, len(outcomes))
	for i, outcome := range outcomes {
		if outcome.Verdict == 0 {
			continue
		}
		answer.reasons[i] = outcome.Reason
		result := &answer.results[i]
		result.isError = 1
		result.failure = outcome.Verdict - 1
		result.reason, result.reasonLength = addressOfText(outcome.Reason)
		result.delaySeconds = outcome.DelaySeconds
	}
	return answer.results
}

func lift(wire *WireMessage) host.Message {
	message := host.Message{
		ID:           textAt(wire.id, wire.idLength),
		Body:         bytesAt(wire.body, wire.bodyLength),
		Queue:        textAt(wire.queue, wire.queueLength),
		ReceiveCount: wire.receiveCount,
		SentAtMs:     wire.sentAtMs,
	}
	if wire.hasGroupID&0xff != 0 {
		message.GroupID = textAt(wire.groupID, wire.groupIDLength)
	}
	for _, attribute := range listAt[wireAttribute](wire.attributes, wire.attributesLength) {
		message.Attributes = append(message.Attributes, host.Attribute{
			Name: textAt(attribute.name, attribute.nameLength),
			Kind: host.Kind(attribute.kind & 0xff),
			Data: textAt(attribute.value, attribute.valueLength),
		})
	}
	return message
}

func lower(message *host.Outgoing) (wireOutgoing, []wireAttribute) {
	var wire wireOutgoing
	attributes := make([]wireAttribute, len(message.Attributes))
	for i, attribute := range message.Attributes {
		attributes[i].name, attributes[i].nameLength = addressOfText(attribute.Name)
		attributes[i].kind = uint32(attribute.Kind)
		attributes[i].value, attributes[i].valueLength = addressOfText(attribute.Data)
	}
	wire.body, wire.bodyLength = addressOfList(message.Body)
	wire.attributes, wire.attributesLength = addressOfList(attributes)
	wire.delaySeconds = message.DelaySeconds
	wire.hasDelay = presence(message.DelaySeconds > 0)
	wire.groupID, wire.groupIDLength = addressOfText(message.GroupID)
	wire.hasGroupID = presence(message.GroupID != "")
	wire.deduplicationID, wire.deduplicationIDLength = addressOfText(message.DeduplicationID)
	wire.hasDeduplicationID = presence(message.DeduplicationID != "")
	wire.priority = presence(message.Priority > 0) | uint32(message.Priority)<<8
	return wire, attributes
}

func presence(present bool) uint32 {
	if present {
		return 1
	}
	return 0
}

//go:wasmimport sandhog:worker/sender@0.1.0 send
//go:noescape
func importSend(queue string, body, bodyLength, attributes, attributesLength, hasDelay, delaySeconds, hasGroupID, groupID,
	groupIDLength, hasDeduplicationID, deduplicationID, deduplicationIDLength, hasPriority, priority uint32,
	result unsafe.Pointer)

//go:wasmimport sandhog:worker/sender@0.1.0 send-many
//go:noescape
func importSendMany(queue string, messages, length uint32, result unsafe.Pointer)

//go:wasmimport wasi:logging/logging@0.1.0-draft log
//go:noescape
func importLog(level uint32, context string, text string)

func init() {
	host.CurrentLogger = logger{}
}

type logger struct{}

func (logger) Log(level host.Level, text string) {
	importLog(uint32(level), "", text)
}

// Sender sends messages. The package for handlers calls it without an interface between them, so that the linker
// knows whether a program sends.
type Sender struct{}

// sending is what the host reads and writes during one call of an import. It is here, and not on a stack:
// stacks move when they grow, and the host knows only addresses. One goroutine at a time may use it.
var sending struct {
	sync.Mutex
	messages   []wireOutgoing
	attributes [][]wireAttribute
	result     wireSent
}

// Send sends one message.
func (Sender) Send(queue string, message host.Outgoing) *host.Refusal {
	return send([]host.Outgoing{message}, func() {
		wire := &sending.messages[0]
		importSend(queue, wire.body, wire.bodyLength, wire.attributes, wire.attributesLength, wire.hasDelay, wire.delaySeconds,
			wire.hasGroupID, wire.groupID, wire.groupIDLength, wire.hasDeduplicationID, wire.deduplicationID,
			wire.deduplicationIDLength, wire.priority&0xff, wire.priority>>8, unsafe.Pointer(&sending.result))
	})
}

// SendMany sends messages, all or none.
func (Sender) SendMany(queue string, messages []host.Outgoing) *host.Refusal {
	return send(messages, func() {
		address, length := addressOfList(sending.messages)
		importSendMany(queue, address, length, unsafe.Pointer(&sending.result))
	})
}

func send(messages []host.Outgoing, call func()) *host.Refusal {
	sending.Lock()
	defer sending.Unlock()
	sending.messages = make([]wireOutgoing, len(messages))
	sending.attributes = make([][]wireAttribute, len(messages))
	for i := range messages {
		sending.messages[i], sending.attributes[i] = lower(&messages[i])
	}
	sending.result = wireSent{}
	resultUsed = 0
	call()
	runtime.KeepAlive(messages)
	sending.messages, sending.attributes = nil, nil
	return sending.result.refusal()
}

func (s *wireSent) refusal() *host.Refusal {
	if s.isError&0xff == 0 {
		return nil
	}
	return &host.Refusal{Kind: host.RefusalKind(s.kind & 0xff), Reason: textAt(s.reason, s.reasonLength)}
}
