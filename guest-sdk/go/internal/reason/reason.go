// Package reason says why a message was not handled.
package reason

import (
	"slices"
	"strconv"
	"strings"
)

// operations are the words in front of a URL in the errors of net/http and net/url.
var operations = []string{"Connect", "Delete", "Get", "Head", "Options", "Patch", "Post", "Put", "Trace", "parse"}

// Of turns the text of an error into a reason. The errors of net/http quote the URL of their request: its query and its user
// are left out, which are no more for everybody who reads logs and dead letters than headers are.
func Of(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	var reason strings.Builder
	for {
		start := strings.IndexByte(text, '"')
		if start < 0 {
			reason.WriteString(text)
			return reason.String()
		}
		size := start + 1
		shown := text[:size]
		if quoted, err := strconv.QuotedPrefix(text[start:]); err == nil && isURL(text[:start], quoted, text[start+len(quoted):]) {
			size = start + len(quoted)
			shown = text[:start] + bare(quoted)
		}
		reason.WriteString(shown)
		text = text[size:]
	}
}

func isURL(front, quoted, behind string) bool {
	if !strings.HasPrefix(behind, ": ") {
		return false
	}
	words := strings.Fields(front)
	return strings.HasPrefix(quoted, `"http://`) || strings.HasPrefix(quoted, `"https://`) ||
		len(words) > 0 && slices.Contains(operations, words[len(words)-1])
}

func bare(quoted string) string {
	url := strings.TrimSuffix(quoted, `"`)
	if end := strings.IndexAny(url, "?#"); end >= 0 {
		url = url[:end]
	}
	if scheme, rest, found := strings.Cut(url, "://"); found {
		server, _, _ := strings.Cut(rest, "/")
		url = scheme + "://" + rest[strings.LastIndexByte(server, '@')+1:]
	}
	return url + `"`
}
