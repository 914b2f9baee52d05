package bridge

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/asmtp/asmtp/internal/account"
)

// separator stands between the levels of a folder's name.
const separator = '/'

var useAttrs = map[string]imap.MailboxAttr{
	account.SpecialSent: imap.MailboxAttrSent, account.SpecialDrafts: imap.MailboxAttrDrafts,
	account.SpecialArchive: imap.MailboxAttrArchive, account.SpecialJunk: imap.MailboxAttrJunk,
	account.SpecialTrash: imap.MailboxAttrTrash,
}

func specialUse(f account.Folder) []imap.MailboxAttr {
	if attr, ok := useAttrs[f.Special]; ok {
		return []imap.MailboxAttr{attr}
	}
	return nil
}

// listed is a name that LIST may show: a folder, a level above folders that is none, or
// the subscribed name of a folder that is gone.
type listed struct {
	name       string
	folder     *account.Folder // nil if there is none
	subscribed bool
	children   bool
	below      bool // a subscribed name is below it
}

// names returns all names, INBOX first.
func (s *imapSession) names() ([]*listed, error) {
	folders, err := s.acc.Folders(s.ctx())
	if err != nil {
		return nil, err
	}
	subscribed, err := s.acc.Subscriptions(s.ctx())
	if err != nil {
		return nil, err
	}
	all := make(map[string]*listed)
	get := func(name string) *listed {
		if all[name] == nil {
			all[name] = &listed{name: name}
		}
		return all[name]
	}
	for i := range folders {
		get(folders[i].Name).folder = &folders[i]
		for up := parent(folders[i].Name); up != ""; up = parent(up) {
			get(up).children = true
		}
	}
	for _, name := range subscribed {
		get(name).subscribed = true
		for up := parent(name); up != ""; up = parent(up) {
			get(up).below = true
		}
	}
	list := make([]*listed, 0, len(all))
	for _, l := range all {
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b *listed) int {
		if inbox := b2i(b.name == "INBOX") - b2i(a.name == "INBOX"); inbox != 0 {
			return inbox
		}
		return strings.Compare(a.name, b.name)
	})
	return list, nil
}

func parent(name string) string {
	if i := strings.LastIndexByte(name, separator); i > 0 {
		return name[:i]
	}
	return ""
}

// List implements imapserver.Session, for LIST and LSUB.
func (s *imapSession) List(w *imapserver.ListWriter, ref string, patterns []string, o *imap.ListOptions) error {
	if len(patterns) == 0 { // LIST "" "" asks for the separator
		return w.WriteList(&imap.ListData{Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}, Delim: separator})
	}
	names, err := s.names()
	if err != nil {
		return s.fail("listing folders", err)
	}
	lsub := s.conn.name == "LSUB"
	for _, l := range names {
		if !slices.ContainsFunc(patterns, func(p string) bool { return matchName(l.name, ref+p) }) {
			continue
		}
		d := l.describe(o, lsub)
		if d == nil {
			continue
		}
		if o.ReturnStatus != nil && l.folder != nil {
			if d.Status, err = s.status(*l.folder, o.ReturnStatus); err != nil {
				return s.fail("listing folders", err)
			}
		}
		if err := w.WriteList(d); err != nil {
			return err
		}
	}
	return nil
}

// describe returns what LIST says of a name; nil if it says nothing.
func (l *listed) describe(o *imap.ListOptions, lsub bool) *imap.ListData {
	d := &imap.ListData{Mailbox: l.name, Delim: separator}
	switch {
	case lsub:
		// RFC 3501, 6.3.9: a level above subscribed folders is shown without being selectable
		if !l.subscribed && !l.below {
			return nil
		}
		if !l.subscribed {
			d.Attrs = []imap.MailboxAttr{imap.MailboxAttrNoSelect}
		}
		return d
	case o.SelectSubscribed:
		deep := o.SelectRecursiveMatch && l.below
		if !l.subscribed && !deep {
			return nil
		}
		if deep {
			d.ChildInfo = &imap.ListDataChildInfo{Subscribed: true}
		}
	case l.folder == nil && !l.children:
		return nil // subscribed only
	}
	if o.SelectSpecialUse && (l.folder == nil || l.folder.Special == "") {
		return nil
	}
	if l.folder == nil {
		d.Attrs = append(d.Attrs, imap.MailboxAttrNonExistent)
		if !o.SelectSubscribed {
			d.Attrs = append(d.Attrs, imap.MailboxAttrNoSelect) // programs of RFC 3501 know this one
		}
	}
	if l.children {
		d.Attrs = append(d.Attrs, imap.MailboxAttrHasChildren)
	} else {
		d.Attrs = append(d.Attrs, imap.MailboxAttrHasNoChildren)
	}
	if l.subscribed && (o.SelectSubscribed || o.ReturnSubscribed) {
		d.Attrs = append(d.Attrs, imap.MailboxAttrSubscribed)
	}
	if l.folder != nil {
		d.Attrs = append(d.Attrs, specialUse(*l.folder)...)
	}
	return d
}

// matchName reports whether a pattern of LIST means a name: * is anything, % anything
// within a level. It takes time in proportion to the product of their lengths (go-imap's
// takes for ever for patterns made for that).
func matchName(name, pattern string) bool {
	if len(pattern) >= 5 && strings.EqualFold(pattern[:5], "INBOX") && (len(pattern) == 5 || pattern[5] == separator) {
		pattern = "INBOX" + pattern[5:]
	}
	at := make([]bool, len(name)+1) // which beginnings of name the pattern so far means
	at[0] = true
	for i := 0; i < len(pattern); i++ {
		switch ch := pattern[i]; ch {
		case '*', '%':
			for j := 0; j < len(name); j++ {
				if at[j] && (ch == '*' || name[j] != separator) {
					at[j+1] = true
				}
			}
		default:
			for j := len(name); j > 0; j-- {
				at[j] = at[j-1] && name[j-1] == ch
			}
			at[0] = false
		}
	}
	return at[len(name)]
}

// Status implements imapserver.Session.
func (s *imapSession) Status(name string, o *imap.StatusOptions) (*imap.StatusData, error) {
	f, err := s.acc.FolderNamed(s.ctx(), name)
	if err != nil {
		return nil, s.fail("STATUS", err)
	}
	d, err := s.status(f, o)
	return d, s.fail("STATUS", err)
}

func (s *imapSession) status(f account.Folder, o *imap.StatusOptions) (*imap.StatusData, error) {
	st, err := s.acc.FolderStatus(s.ctx(), f.ID)
	if err != nil {
		return nil, err
	}
	limit, none, zero := s.AppendLimit(), uint32(0), int64(0)
	return &imap.StatusData{
		Mailbox: f.Name, NumMessages: &st.Messages, NumRecent: &none, UIDNext: imap.UID(st.UIDNext), UIDValidity: st.UIDValidity,
		NumUnseen: &st.Unseen, NumDeleted: &st.Deleted, Size: &st.Size, AppendLimit: &limit, DeletedStorage: &zero,
	}, nil
}

// Namespace implements imapserver.SessionNamespace.
func (s *imapSession) Namespace() (*imap.NamespaceData, error) {
	return &imap.NamespaceData{Personal: []imap.NamespaceDescriptor{{Delim: separator}}}, nil
}

// Create implements imapserver.Session. A separator at the end says that there will be
// folders below it (RFC 9051, 6.3.4), which every folder may have.
func (s *imapSession) Create(name string, o *imap.CreateOptions) error {
	if len(o.SpecialUse) > 0 {
		return no("USEATTR", "a special use cannot be chosen")
	}
	_, err := s.acc.CreateFolder(s.ctx(), strings.TrimSuffix(name, string(separator)))
	return s.fail("CREATE", err)
}

// Delete implements imapserver.Session.
func (s *imapSession) Delete(name string) error {
	return s.fail("DELETE", s.acc.DeleteFolder(s.ctx(), name))
}

// Rename implements imapserver.Session.
func (s *imapSession) Rename(name, to string, _ *imap.RenameOptions) error {
	return s.fail("RENAME", s.acc.RenameFolder(s.ctx(), name, strings.TrimSuffix(to, string(separator))))
}

// Subscribe implements imapserver.Session.
func (s *imapSession) Subscribe(name string) error {
	return s.fail("SUBSCRIBE", s.acc.SubscribeFolder(s.ctx(), name, true))
}

// Unsubscribe implements imapserver.Session.
func (s *imapSession) Unsubscribe(name string) error {
	return s.fail("UNSUBSCRIBE", s.acc.SubscribeFolder(s.ctx(), name, false))
}
