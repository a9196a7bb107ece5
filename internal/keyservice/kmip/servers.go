package kmip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ovh/kmip-go"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// servers is the nodes of one cluster. It asks the one that answered last, and the others in their order when that one is
// away.
type servers struct {
	nodes     []*server
	preferred atomic.Int32 // index into nodes
	trust     *trust
	versions  []kmip.ProtocolVersion
	log       *slog.Logger
}

func newServers(config Config, log *slog.Logger) *servers {
	s := &servers{
		versions: config.form().versions(), log: log,
		trust: &trust{
			caFile: config.CAFile, certFile: config.ClientCertFile, keyFile: config.ClientKeyFile,
			serverName: config.TLSServerName, log: log,
		},
	}
	for _, address := range config.Addresses {
		s.nodes = append(s.nodes, &server{address: address})
	}
	return s
}

// ask sends one request to a server that answers, and returns the payload of its answer.
func ask[Answer kmip.OperationPayload](ctx context.Context, s *servers, op string, request kmip.OperationPayload) (Answer, error) {
	var none Answer
	item, err := s.do(ctx, op, request)
	if err != nil {
		return none, err
	}
	answer, ok := item.ResponsePayload.(Answer)
	if !ok || answer.Operation() != request.Operation() {
		return none, damagedAnswer(op, errors.New("it answers another operation"))
	}
	return answer, nil
}

// do asks one server after the other. An answer that another server would give as well ends the search: only what is
// Unavailable goes on to the next address.
func (s *servers) do(ctx context.Context, op string, request kmip.OperationPayload) (kmip.ResponseBatchItem, error) {
	first := int(s.preferred.Load())
	var failures []*keyservice.Error
	for i := range len(s.nodes) {
		n := (first + i) % len(s.nodes)
		item, err := s.try(ctx, op, s.nodes[n], request, len(s.nodes)-i)
		switch {
		case err == nil:
			s.prefer(first, n)
			return item, nil
		case err.Kind != keyservice.Unavailable:
			s.prefer(first, n)
			return item, err
		case ctx.Err() != nil:
			return item, err
		}
		failures = append(failures, err)
	}
	return kmip.ResponseBatchItem{}, s.summary(op, first, failures)
}

func (s *servers) prefer(before, now int) {
	if before != now && s.preferred.CompareAndSwap(int32(before), int32(now)) {
		s.log.Warn("using another server", "address", s.nodes[now].address, "instead_of", s.nodes[before].address)
	}
}

// try asks one server. With left-1 further ones to try, it takes half of the time that is left, so that a server which
// accepts a request and does not answer leaves time for another. Encrypting, decrypting and reading twice do no harm: a
// request goes out again when the connection had been idle and the server had closed it.
func (s *servers) try(ctx context.Context, op string, node *server, request kmip.OperationPayload, left int) (
	kmip.ResponseBatchItem, *keyservice.Error,
) {
	attempt := ctx
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		attempt, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	for {
		item, reused, err := s.once(attempt, node, request, left == 1)
		_, malformed := errors.AsType[*malformedError](err)
		switch {
		case err == nil && item.ResultStatus == kmip.ResultStatusSuccess:
			return item, nil
		case err == nil:
			return item, judge(op, request, item)
		case !reused || malformed || attempt.Err() != nil:
			return item, classify(ctx, op, err)
		}
	}
}

// connectTimeout is how long connecting to a server may take while there is another one to try: it leaves half of an API
// server's three seconds.
const connectTimeout = 1500 * time.Millisecond

// once sends the request over one connection, and tells whether it had been used before.
func (s *servers) once(ctx context.Context, node *server, request kmip.OperationPayload, last bool) (
	item kmip.ResponseBatchItem, reused bool, err error,
) {
	if err := ctx.Err(); err != nil {
		return item, false, err
	}
	if node.isClosed() {
		return item, false, errClosed
	}
	made, err := s.trust.current()
	if err != nil {
		return item, false, err
	}
	c := node.take(made)
	reused = c != nil
	if !reused {
		dialing, cancel := ctx, context.CancelFunc(func() {})
		if !last {
			dialing, cancel = context.WithTimeout(ctx, connectTimeout)
		}
		c, err = dial(dialing, node.address, made, s.versions)
		cancel()
		if err != nil {
			return item, false, err
		}
	}
	if item, err = c.ask(ctx, request); err != nil {
		c.raw.Close()
		return item, reused, err
	}
	node.put(c)
	return item, reused, nil
}

// summary is the error when no server could be used: with one server what happened there, else what happened at each.
func (s *servers) summary(op string, first int, failures []*keyservice.Error) error {
	if len(failures) == 1 {
		return failures[0]
	}
	hint, said, causes := failures[0].Hint, make([]string, len(failures)), make([]error, len(failures))
	for i, f := range failures {
		said[i] = fmt.Sprintf("%s: %v", s.nodes[(first+i)%len(s.nodes)].address, f.Err)
		causes[i] = f.Err
		if f.Hint == hintTLS {
			hint = f.Hint // says more than that nobody answers
		}
	}
	all := &oneLine{errors.Join(causes...), strings.Join(said, "; ")}
	return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Hint: hint, Err: all}
}

// oneLine is several errors on one line, because the text goes into a log attribute.
type oneLine struct {
	error
	text string
}

func (o *oneLine) Error() string { return o.text }
func (o *oneLine) Unwrap() error { return o.error }

func (s *servers) close() {
	for _, node := range s.nodes {
		node.close()
	}
	s.trust.forget()
}
