package bridge

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The model: what RFC 9051 says a server has to do with folders and flags, told as simply
// as possible. Random commands of three sessions at once go to the server and to the
// model; whatever the server answers has to be what the model says.

// modelMessage is a message in a folder of the model.
type modelMessage struct {
	uid   int
	flags map[string]bool
	body  string
}

type modelFolder struct {
	name string
	next int
	msgs []*modelMessage
}

func (f *modelFolder) find(uid int) *modelMessage {
	for _, m := range f.msgs {
		if m.uid == uid {
			return m
		}
	}
	return nil
}

func (f *modelFolder) add(flags map[string]bool, body string) int {
	f.next++
	f.msgs = append(f.msgs, &modelMessage{f.next - 1, flags, body})
	return f.next - 1
}

func (f *modelFolder) remove(gone func(*modelMessage) bool) {
	f.msgs = slices.DeleteFunc(f.msgs, gone)
}

// modelSession is what one program knows: only what it was told.
type modelSession struct {
	*imapClient
	name     string
	folder   *modelFolder
	readOnly bool
	seq      []int                   // uids by sequence numbers
	last     int                     // the highest uid that it was told of
	flags    map[int]map[string]bool // of a uid: what it was told last
}

// model is the folders and the sessions.
type model struct {
	t        *testing.T
	r        *rand.Rand
	folders  map[string]*modelFolder
	sessions []*modelSession
	log      []string
	bodies   int
}

const modelSequence = 12 // commands of a sequence

// TestModel runs random sequences of commands: ASMTP_IMAP_SEQUENCES says how many,
// ASMTP_IMAP_SEED repeats a run that failed.
func TestModel(t *testing.T) {
	count := 150
	if s := os.Getenv("ASMTP_IMAP_SEQUENCES"); s != "" {
		count, _ = strconv.Atoi(s)
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("ASMTP_IMAP_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("ASMTP_IMAP_SEED=%d", seed)
	const perAccount = 50
	for at := 0; at < count; at += perAccount {
		n := min(perAccount, count-at)
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			m := newModel(t, rand.New(rand.NewPCG(seed, uint64(at))))
			for range n {
				m.sequence()
			}
		})
	}
}

func newModel(t *testing.T, r *rand.Rand) *model {
	e := newIMAPEnv(t, nil)
	m := &model{t: t, r: r, folders: map[string]*modelFolder{}}
	for _, name := range []string{"INBOX", "Archive", "Trash"} {
		m.folders[name] = &modelFolder{name: name, next: 1}
	}
	for i := range 3 {
		m.sessions = append(m.sessions, &modelSession{imapClient: e.login(), name: fmt.Sprint("session ", i+1)})
	}
	return m
}

func (m *model) fatal(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\nafter:\n%s", fmt.Sprintf(format, args...), strings.Join(m.log[max(0, len(m.log)-60):], "\n"))
}

// sequence does some commands, then looks whether everybody knows the same.
func (m *model) sequence() {
	for range modelSequence {
		s := m.sessions[m.r.IntN(len(m.sessions))]
		m.step(s)
	}
	for _, s := range m.sessions {
		m.noop(s)
	}
}

func (m *model) step(s *modelSession) {
	if s.folder == nil {
		m.pick(m.selectFolder, m.selectFolder, m.selectFolder, m.append, m.status, m.noop)(s)
		return
	}
	m.pick(m.selectFolder, m.append, m.append, m.append, m.status, m.noop, m.idle, m.store, m.store, m.store, m.store,
		m.fetch, m.fetch, m.fetchBody, m.search, m.search, m.copy, m.move, m.expunge, m.expunge, m.uidExpunge, m.closeFolder, m.folder)(s)
}

func (m *model) pick(steps ...func(*modelSession)) func(*modelSession) {
	return steps[m.r.IntN(len(steps))]
}

// do sends a command and takes in what came without being asked for. FETCH responses
// beyond flags are given to fn. expunge says whether EXPUNGE may come.
func (m *model) do(s *modelSession, command string, expunge bool, fn func(line string) bool) string {
	m.t.Helper()
	m.log = append(m.log, s.name+": "+command)
	untagged, tagged := s.do(command)
	for _, line := range untagged {
		m.log = append(m.log, s.name+"    "+line)
		if fn != nil && fn(line) {
			continue
		}
		m.untagged(s, line, expunge)
	}
	m.log = append(m.log, s.name+"    "+tagged)
	return tagged
}

var (
	modelNumber = regexp.MustCompile(`^\* (\d+) (EXISTS|EXPUNGE|RECENT)$`)
	modelFlags  = regexp.MustCompile(`^\* (\d+) FETCH \((?:UID (\d+) )?FLAGS \(([^)]*)\)\)$`)
)

func (m *model) untagged(s *modelSession, line string, expunge bool) {
	m.t.Helper()
	if g := modelNumber.FindStringSubmatch(line); g != nil && s.folder != nil {
		n, _ := strconv.Atoi(g[1])
		switch g[2] {
		case "EXPUNGE":
			if !expunge || n < 1 || n > len(s.seq) {
				m.fatal("%s: %s is not allowed here (%d messages)", s.name, line, len(s.seq))
			}
			if s.folder.find(s.seq[n-1]) != nil {
				m.fatal("%s: %s, but %d is still there", s.name, line, s.seq[n-1])
			}
			delete(s.flags, s.seq[n-1])
			s.seq = slices.Delete(s.seq, n-1, n)
		case "EXISTS":
			for _, msg := range s.folder.msgs {
				if msg.uid > s.last {
					s.seq = append(s.seq, msg.uid)
				}
			}
			s.last = max(s.last, s.folder.next-1)
			if n != len(s.seq) {
				m.fatal("%s: %s, want %d", s.name, line, len(s.seq))
			}
		}
		return
	}
	if g := modelFlags.FindStringSubmatch(line); g != nil {
		m.learn(s, g)
		return
	}
	if !strings.HasPrefix(line, "* FLAGS ") && !strings.HasPrefix(line, "* OK ") {
		m.fatal("%s: unexpected %s", s.name, line)
	}
}

// learn takes in the flags of a message, which must be the true ones.
func (m *model) learn(s *modelSession, g []string) {
	m.t.Helper()
	seq, _ := strconv.Atoi(g[1])
	if seq < 1 || seq > len(s.seq) {
		m.fatal("%s: %s: there is no such message", s.name, g[0])
	}
	uid := s.seq[seq-1]
	if g[2] != "" && g[2] != strconv.Itoa(uid) {
		m.fatal("%s: %s, want uid %d", s.name, g[0], uid)
	}
	msg := s.folder.find(uid)
	got := flagSet(g[3])
	if msg == nil || !maps.Equal(got, msg.flags) {
		m.fatal("%s: %s, want %v", s.name, g[0], msg)
	}
	s.flags[uid] = got
}

func flagSet(list string) map[string]bool {
	set := map[string]bool{}
	for _, f := range strings.Fields(list) {
		set[f] = true
	}
	return set
}

func flagNamesOf(set map[string]bool) string {
	return strings.Join(slices.Sorted(maps.Keys(set)), " ")
}

// noop: afterwards a session knows all.
func (m *model) noop(s *modelSession) {
	m.t.Helper()
	m.want(s, m.do(s, "NOOP", true, nil), "OK")
	m.current(s)
}

// current checks that a session knows what there is.
func (m *model) current(s *modelSession) {
	m.t.Helper()
	if s.folder == nil {
		return
	}
	var want []int
	for _, msg := range s.folder.msgs {
		want = append(want, msg.uid)
		if got, ok := s.flags[msg.uid]; ok && !maps.Equal(got, msg.flags) {
			m.fatal("%s: uid %d has %v, the session was told %v", s.name, msg.uid, flagNamesOf(msg.flags), flagNamesOf(got))
		}
	}
	if !slices.Equal(s.seq, want) {
		m.fatal("%s: there are %v, the session was told %v", s.name, want, s.seq)
	}
}

func (m *model) want(s *modelSession, got, want string) {
	m.t.Helper()
	if !strings.HasPrefix(got, want) {
		m.fatal("%s: got %s, want %s", s.name, got, want)
	}
}

// idle: what others did comes while it waits; here it is there already.
func (m *model) idle(s *modelSession) {
	s.n++
	tag := fmt.Sprintf("t%d", s.n)
	m.log = append(m.log, s.name+": IDLE")
	s.send(tag + " IDLE\r\n")
	if line := s.line(); !strings.HasPrefix(line, "+") {
		m.fatal("IDLE: %s", line)
	}
	s.send("DONE\r\n")
	untagged, tagged := s.until(tag)
	for _, line := range untagged {
		m.log = append(m.log, s.name+"    "+line)
		m.untagged(s, line, true)
	}
	m.want(s, tagged, "OK")
	m.current(s)
}

func (m *model) name() string {
	names := slices.Sorted(maps.Keys(m.folders))
	return names[m.r.IntN(len(names))]
}

func (m *model) selectFolder(s *modelSession) {
	name, verb := m.name(), "SELECT"
	if m.r.IntN(5) == 0 {
		verb = "EXAMINE"
	}
	if m.r.IntN(20) == 0 {
		s.folder, s.seq = nil, nil
		m.want(s, m.do(s, verb+" Nowhere", true, nil), "NO")
		return
	}
	f := m.folders[name]
	s.folder = nil
	exists := -1
	tagged := m.do(s, verb+" "+name, true, func(line string) bool {
		if g := modelNumber.FindStringSubmatch(line); g != nil && g[2] == "EXISTS" {
			exists, _ = strconv.Atoi(g[1])
		}
		if strings.HasPrefix(line, "* OK [UIDNEXT ") && !strings.HasPrefix(line, fmt.Sprintf("* OK [UIDNEXT %d]", f.next)) {
			m.fatal("%s, want %d", line, f.next)
		}
		return true
	})
	m.want(s, tagged, "OK")
	if exists != len(f.msgs) {
		m.fatal("%s: %d exist, want %d", s.name, exists, len(f.msgs))
	}
	s.folder, s.readOnly, s.seq, s.last, s.flags = f, verb == "EXAMINE", nil, f.next-1, map[int]map[string]bool{}
	for _, msg := range f.msgs {
		s.seq = append(s.seq, msg.uid)
	}
}

func (m *model) closeFolder(s *modelSession) {
	if m.r.IntN(2) == 0 {
		m.want(s, m.do(s, "UNSELECT", true, nil), "OK")
	} else {
		m.want(s, m.do(s, "CLOSE", false, nil), "OK")
		if !s.readOnly {
			last := s.last
			s.folder.remove(func(msg *modelMessage) bool { return msg.flags[`\Deleted`] && msg.uid <= last })
		}
	}
	s.folder, s.seq = nil, nil
}

// folder makes or deletes a folder, which others may have open.
func (m *model) folder(s *modelSession) {
	const name = "Extra"
	if f := m.folders[name]; f != nil {
		m.want(s, m.do(s, "DELETE "+name, true, func(line string) bool {
			if strings.HasSuffix(line, "EXPUNGE") {
				f.msgs = nil
			}
			return false
		}), "OK")
		f.msgs = nil
		delete(m.folders, name)
		return
	}
	m.want(s, m.do(s, "CREATE "+name, true, nil), "OK")
	m.folders[name] = &modelFolder{name: name, next: 1}
}

var modelFlagNames = []string{`\Seen`, `\Answered`, `\Flagged`, `\Deleted`, `\Deleted`, `\Draft`, "$Junk", "own"}

func (m *model) randomFlags() map[string]bool {
	set := map[string]bool{}
	for range m.r.IntN(3) {
		set[modelFlagNames[m.r.IntN(len(modelFlagNames))]] = true
	}
	return set
}

func (m *model) append(s *modelSession) {
	name, flags := m.name(), m.randomFlags()
	m.bodies++
	body := fmt.Sprintf("Subject: mail %d\r\nMessage-ID: <%d@model>\r\n\r\nbody %d\r\n", m.bodies, m.bodies, m.bodies)
	f := m.folders[name]
	uid := f.add(flags, body)
	tagged := m.do(s, fmt.Sprintf("APPEND %s (%s) {%d+}\r\n%s", name, flagNamesOf(flags), len(body), body), true, nil)
	if !regexp.MustCompile(fmt.Sprintf(`^OK \[APPENDUID \d+ %d\]`, uid)).MatchString(tagged) {
		m.fatal("%s: %s, want uid %d", s.name, tagged, uid)
	}
}

func (m *model) status(s *modelSession) {
	f := m.folders[m.name()]
	var unseen, deleted int
	for _, msg := range f.msgs {
		unseen += b2i(!msg.flags[`\Seen`])
		deleted += b2i(msg.flags[`\Deleted`])
	}
	name := f.name
	if name != "INBOX" {
		name = `"` + name + `"`
	}
	want := fmt.Sprintf("* STATUS %s (MESSAGES %d UIDNEXT %d UNSEEN %d DELETED %d)", name, len(f.msgs), f.next, unseen, deleted)
	seen := false
	m.want(s, m.do(s, "STATUS "+f.name+" (MESSAGES UIDNEXT UNSEEN DELETED)", true, func(line string) bool {
		if !strings.HasPrefix(line, "* STATUS") {
			return false
		}
		seen = true
		if line != want {
			m.fatal("%s\nwant %s", line, want)
		}
		return true
	}), "OK")
	if !seen {
		m.fatal("no STATUS")
	}
}

// set makes a random set of numbers and says which messages of the session it means.
func (m *model) set(s *modelSession, uid bool) (text string, uids []int) {
	top := len(s.seq)
	if uid {
		top = 0
		if len(s.seq) > 0 {
			top = s.seq[len(s.seq)-1]
		}
	}
	number := func() (string, int) {
		if m.r.IntN(6) == 0 {
			return "*", top
		}
		n := 1 + m.r.IntN(top+3)
		return strconv.Itoa(n), n
	}
	in := map[int]bool{}
	var parts []string
	for range 1 + m.r.IntN(3) {
		a, from := number()
		if m.r.IntN(2) == 0 {
			b, to := number()
			a += ":" + b
			for n := min(from, to); n <= max(from, to); n++ {
				in[n] = true
			}
		} else {
			in[from] = true
		}
		parts = append(parts, a)
	}
	for i, u := range s.seq {
		if uid && in[u] || !uid && in[i+1] {
			uids = append(uids, u)
		}
	}
	return strings.Join(parts, ","), uids
}

// there returns those of uids that were not removed meanwhile.
func (m *model) there(s *modelSession, uids []int) []*modelMessage {
	var l []*modelMessage
	for _, uid := range uids {
		if msg := s.folder.find(uid); msg != nil {
			l = append(l, msg)
		}
	}
	return l
}

func (m *model) uidOr(command string) (string, bool) {
	if m.r.IntN(2) == 0 {
		return "UID " + command, true
	}
	return command, false
}

func (m *model) store(s *modelSession) {
	command, uid := m.uidOr("STORE")
	set, uids := m.set(s, uid)
	flags := m.randomFlags()
	op := []string{"FLAGS", "+FLAGS", "-FLAGS"}[m.r.IntN(3)]
	silent := m.r.IntN(3) == 0
	item := op
	if silent {
		item += ".SILENT"
	}
	line := fmt.Sprintf("%s %s %s (%s)", command, set, item, flagNamesOf(flags))
	if s.readOnly {
		m.want(s, m.do(s, line, uid, nil), "NO")
		return
	}
	msgs := m.there(s, uids)
	told := map[int]bool{}
	for _, msg := range msgs {
		old := msg.flags
		msg.flags = maps.Clone(msg.flags)
		switch op {
		case "FLAGS":
			msg.flags = maps.Clone(flags)
		case "+FLAGS":
			maps.Copy(msg.flags, flags)
		default:
			maps.DeleteFunc(msg.flags, func(f string, _ bool) bool { return flags[f] })
		}
		if known, ok := s.flags[msg.uid]; ok && silent && maps.Equal(known, old) {
			s.flags[msg.uid] = msg.flags // it takes that for granted
		}
	}
	m.want(s, m.do(s, line, uid, func(line string) bool {
		if g := modelFlags.FindStringSubmatch(line); g != nil {
			u, _ := strconv.Atoi(g[2])
			told[u] = true
		}
		return false
	}), "OK")
	for _, msg := range msgs {
		if !silent && !told[msg.uid] {
			m.fatal("%s: no answer for uid %d", s.name, msg.uid)
		}
	}
}

func (m *model) fetch(s *modelSession) {
	command, uid := m.uidOr("FETCH")
	set, uids := m.set(s, uid)
	got := map[int]bool{}
	tagged := m.do(s, command+" "+set+" (UID FLAGS)", uid, func(line string) bool {
		if g := modelFlags.FindStringSubmatch(line); g != nil {
			u, _ := strconv.Atoi(g[2])
			got[u] = true
		}
		return false
	})
	m.fetched(s, uids, got, uid, tagged)
}

func (m *model) fetched(s *modelSession, uids []int, got map[int]bool, uid bool, tagged string) {
	msgs := m.there(s, uids)
	for _, msg := range msgs {
		if !got[msg.uid] {
			m.fatal("%s: uid %d was not fetched", s.name, msg.uid)
		}
	}
	if want := []string{"OK", "NO [EXPUNGEISSUED]"}[b2i(!uid && len(msgs) < len(uids))]; !strings.HasPrefix(tagged, want) {
		m.fatal("%s: %s, want %s", s.name, tagged, want)
	}
}

var modelBody = regexp.MustCompile(`(?s)^\* (\d+) FETCH \(UID (\d+) BODY\[\] \{\d+\}\r\n(.*?)(?: FLAGS \(([^)]*)\))?\)$`)

// fetchBody reads messages, which marks them as read.
func (m *model) fetchBody(s *modelSession) {
	command, uid := m.uidOr("FETCH")
	set, uids := m.set(s, uid)
	for _, msg := range m.there(s, uids) {
		if !s.readOnly && !msg.flags[`\Seen`] {
			msg.flags = maps.Clone(msg.flags)
			msg.flags[`\Seen`] = true
		}
	}
	got := map[int]bool{}
	tagged := m.do(s, command+" "+set+" (UID BODY[])", uid, func(line string) bool {
		g := modelBody.FindStringSubmatch(line)
		if g == nil {
			return false
		}
		u, _ := strconv.Atoi(g[2])
		msg := s.folder.find(u)
		if msg == nil || g[3] != msg.body {
			m.fatal("%s: %q, want %v", s.name, line, msg)
		}
		got[u] = true
		if strings.Contains(line, ") FLAGS (") || strings.HasSuffix(line, "))") {
			m.learn(s, []string{line, g[1], g[2], g[4]})
		}
		return true
	})
	m.fetched(s, uids, got, uid, tagged)
}

// search asks for a random expression of flags and sets.
func (m *model) search(s *modelSession) {
	command, uid := m.uidOr("SEARCH")
	text, match := m.key(s, 0)
	var want []string
	for i, u := range s.seq {
		if msg := s.folder.find(u); msg != nil && match(i+1, msg) {
			n := i + 1
			if uid {
				n = u
			}
			want = append(want, strconv.Itoa(n))
		}
	}
	wantLine := strings.Join(append([]string{"* SEARCH"}, want...), " ")
	seen := false
	m.want(s, m.do(s, command+" "+text, uid, func(line string) bool {
		if !strings.HasPrefix(line, "* SEARCH") {
			return false
		}
		if seen = true; line != wantLine {
			m.fatal("%s: %s\nwant %s", s.name, line, wantLine)
		}
		return true
	}), "OK")
	if !seen {
		m.fatal("%s: no SEARCH", s.name)
	}
}

func (m *model) key(s *modelSession, depth int) (string, func(int, *modelMessage) bool) {
	flag := func(name string) func(int, *modelMessage) bool {
		return func(_ int, msg *modelMessage) bool { return msg.flags[name] }
	}
	if depth > 3 {
		return "SEEN", flag(`\Seen`)
	}
	switch m.r.IntN(9) {
	case 0:
		return "FLAGGED", flag(`\Flagged`)
	case 1:
		return "UNDELETED", func(_ int, msg *modelMessage) bool { return !msg.flags[`\Deleted`] }
	case 2:
		return "KEYWORD OWN", flag("own")
	case 3:
		a, am := m.key(s, depth+1)
		return "NOT " + a, func(n int, msg *modelMessage) bool { return !am(n, msg) }
	case 4:
		a, am := m.key(s, depth+1)
		b, bm := m.key(s, depth+1)
		return "OR " + a + " " + b, func(n int, msg *modelMessage) bool { return am(n, msg) || bm(n, msg) }
	case 5:
		a, am := m.key(s, depth+1)
		b, bm := m.key(s, depth+1)
		return "(" + a + " " + b + ")", func(n int, msg *modelMessage) bool { return am(n, msg) && bm(n, msg) }
	case 6, 7:
		uid := m.r.IntN(2) == 0
		text, uids := m.set(s, uid)
		if uid {
			text = "UID " + text
		}
		return text, func(_ int, msg *modelMessage) bool { return slices.Contains(uids, msg.uid) }
	}
	n := 1 + m.r.IntN(m.bodies+1)
	text := fmt.Sprintf("mail %d", n)
	return fmt.Sprintf("SUBJECT %q", text), func(_ int, msg *modelMessage) bool {
		subject, _, _ := strings.Cut(msg.body, "\r\n")
		return strings.Contains(subject, text)
	}
}

func (m *model) copy(s *modelSession) { m.transfer(s, "COPY") }
func (m *model) move(s *modelSession) { m.transfer(s, "MOVE") }

func (m *model) transfer(s *modelSession, verb string) {
	command, uid := m.uidOr(verb)
	set, uids := m.set(s, uid)
	to := m.folders[m.name()]
	if to == s.folder && verb == "MOVE" {
		return // what that means is up to the server
	}
	line := command + " " + set + " " + to.name
	if verb == "MOVE" && s.readOnly {
		m.want(s, m.do(s, line, true, nil), "NO")
		return
	}
	msgs := m.there(s, uids)
	if !uid && len(msgs) < len(uids) { // another session removed some
		m.want(s, m.do(s, line, true, nil), "NO [EXPUNGEISSUED]")
		return
	}
	for _, msg := range msgs {
		to.add(maps.Clone(msg.flags), msg.body)
	}
	if verb == "MOVE" {
		s.folder.remove(func(msg *modelMessage) bool { return slices.Contains(msgs, msg) })
	}
	m.want(s, m.do(s, line, true, nil), "OK")
	m.current(s)
}

func (m *model) expunge(s *modelSession) {
	if s.readOnly {
		m.want(s, m.do(s, "EXPUNGE", true, nil), "NO")
		return
	}
	last := s.last
	s.folder.remove(func(msg *modelMessage) bool { return msg.flags[`\Deleted`] && msg.uid <= last })
	m.want(s, m.do(s, "EXPUNGE", true, nil), "OK")
	m.current(s)
}

func (m *model) uidExpunge(s *modelSession) {
	set, uids := m.set(s, true)
	if s.readOnly {
		m.want(s, m.do(s, "UID EXPUNGE "+set, true, nil), "NO")
		return
	}
	s.folder.remove(func(msg *modelMessage) bool { return msg.flags[`\Deleted`] && slices.Contains(uids, msg.uid) })
	m.want(s, m.do(s, "UID EXPUNGE "+set, true, nil), "OK")
	m.current(s)
}
