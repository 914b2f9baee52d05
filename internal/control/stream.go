package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// An answer of unknown length is sent as it comes, and the trailer resultTrailer says
// how it ended: "ok", or the JSON of an error. An answer without it was broken off.
const (
	resultTrailer = "Asmtp-Result"
	resultOK      = "ok"
)

// stream makes a handler of a function that writes its answer bit by bit.
func stream(s *server, contentType string, do func(context.Context, io.Writer) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			if err := readBody(w, r, new(empty)); err != nil {
				writeError(w, fmt.Errorf("%w: %w", ErrInvalid, err))
				return
			}
		}
		body := &streamBody{ResponseWriter: w, contentType: contentType}
		err := do(r.Context(), body)
		if err != nil {
			s.log.Info("control: failed", "request", r.URL.Path, "err", err)
			if !body.begun {
				writeError(w, err)
				return
			}
		}
		body.end(err)
	}
}

// streamBody begins the answer with the first byte, so that an error before it is
// answered as that of any other call.
type streamBody struct {
	http.ResponseWriter
	contentType string
	begun       bool
}

func (b *streamBody) begin() {
	if b.begun {
		return
	}
	b.begun = true
	b.Header().Set("Content-Type", b.contentType)
	b.Header().Set("Trailer", resultTrailer)
	b.WriteHeader(http.StatusOK)
}

func (b *streamBody) Write(p []byte) (int, error) {
	b.begin()
	return b.ResponseWriter.Write(p)
}

// flush sends what was written. Not every writer can; that of a test cannot.
func (b *streamBody) flush() error {
	err := http.NewResponseController(b.ResponseWriter).Flush()
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

func (b *streamBody) end(err error) {
	b.begin()
	result := []byte(resultOK)
	if err != nil {
		code, _ := codeOf(err)
		// Two strings always encode.
		result, _ = json.Marshal(errorAnswer{Code: code, Error: err.Error()})
	}
	b.Header().Set(resultTrailer, string(result))
}

// VerifyEvent is news of a check of the store: how far it is, or a problem.
type VerifyEvent struct {
	Done    int64  `json:"done,omitempty"`    // envelopes read so far
	Total   int64  `json:"total,omitempty"`   // about as many there are
	Problem string `json:"problem,omitempty"` // in words; empty: the event is about progress
}

func (s *server) verify(ctx context.Context, w io.Writer) error {
	encoder := json.NewEncoder(w)
	return s.StoreVerify(ctx, func(e VerifyEvent) error {
		if err := encoder.Encode(e); err != nil {
			return err
		}
		return w.(*streamBody).flush()
	})
}

// maxEvent bounds one line of a stream of events.
const maxEvent = 64 << 10

// StoreVerify implements [Backend].
func (c *Client) StoreVerify(ctx context.Context, report func(VerifyEvent) error) error {
	return c.stream(ctx, http.MethodPost, "store/verify", func(r io.Reader) error {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxEvent)
		for lines.Scan() {
			var e VerifyEvent
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			if err := report(e); err != nil {
				return err
			}
		}
		return lines.Err()
	})
}

// StoreBackup implements [Backend].
func (c *Client) StoreBackup(ctx context.Context, w io.Writer) error {
	return c.stream(ctx, http.MethodPost, "store/backup", func(r io.Reader) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// stream makes a request, has read read the answer, and checks that it came to its end.
func (c *Client) stream(ctx context.Context, method, path string, read func(io.Reader) error) error {
	what := method + " " + path
	response, err := c.send(ctx, method, path, empty{})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %w", what, failure(response))
	}
	if err := read(response.Body); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	switch result := response.Trailer.Get(resultTrailer); result {
	case resultOK:
		return nil
	case "":
		return fmt.Errorf("%s: the answer was broken off: %w", what, io.ErrUnexpectedEOF)
	default:
		return fmt.Errorf("%s: %w", what, parseFailure([]byte(result), response.Status))
	}
}
