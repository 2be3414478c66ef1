package sandhog

import (
	"context"
	"log/slog"
	"strings"

	"sandhog/internal/host"
)

// Levels of the host's log beyond those of log/slog.
const (
	LevelTrace    = slog.LevelDebug - 4
	LevelCritical = slog.LevelError + 4
)

// LogHandler returns the handler of log/slog that writes into the host's log. Package worker makes it the
// default one, so that slog.Info and the functions of package log write there; use this to set options.
func LogHandler(options *slog.HandlerOptions) slog.Handler {
	var given slog.HandlerOptions
	if options != nil {
		given = *options
	}
	if given.Level == nil {
		given.Level = LevelTrace
	}
	replace := given.ReplaceAttr
	given.ReplaceAttr = func(groups []string, attribute slog.Attr) slog.Attr {
		// The host knows the time and the level.
		if len(groups) == 0 && (attribute.Key == slog.TimeKey || attribute.Key == slog.LevelKey || attribute.Key == slog.MessageKey) {
			return slog.Attr{}
		}
		if replace != nil {
			return replace(groups, attribute)
		}
		return attribute
	}
	line := &strings.Builder{}
	return &logHandler{slog.NewTextHandler(line, &given), line}
}

// logHandler puts the message in front of what slog's own text handler makes of the attributes.
type logHandler struct {
	attributes slog.Handler
	line       *strings.Builder
}

func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.attributes.Enabled(ctx, level)
}

func (h *logHandler) Handle(ctx context.Context, record slog.Record) error {
	h.line.Reset()
	if err := h.attributes.Handle(ctx, record); err != nil {
		return err
	}
	text := strings.TrimSpace(record.Message + " " + strings.TrimSpace(h.line.String()))
	host.CurrentLogger.Log(hostLevel(record.Level), strings.ToValidUTF8(text, "\uFFFD"))
	return nil
}

func (h *logHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return &logHandler{h.attributes.WithAttrs(attributes), h.line}
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.attributes.WithGroup(name), h.line}
}

func hostLevel(level slog.Level) host.Level {
	switch {
	case level < slog.LevelDebug:
		return host.Trace
	case level < slog.LevelInfo:
		return host.Debug
	case level < slog.LevelWarn:
		return host.Info
	case level < slog.LevelError:
		return host.Warn
	case level < LevelCritical:
		return host.Error
	}
	return host.Critical
}
