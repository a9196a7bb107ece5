// A PKCS#11 module for tests: the module REAL with faults to order. Orders are files in the folder ORDERS:
//
//   stall         functions do not return while it exists
//   C_Encrypt     (or another function) returns the code in the file, in hexadecimal
//   damaged       the code in the file, in hexadecimal, is what C_Decrypt and C_UnwrapKey say when they fail in REAL
//   hsm-iv        AES-GCM takes no initialization vector but zeros, and makes its own, as HSMs in FIPS mode do
//   final-try     the token says that it locks after one more wrong PIN
//
// The names of the functions that are called are appended to the file "calls". Two mechanisms that REAL may lack are
// stood in for: CKM_AES_KEY_WRAP_KWP by CKM_AES_KEY_WRAP_PAD, and RSA-OAEP with SHA-256 by that with SHA-1.
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long word;
typedef word function(word, word, word, word, word, word, word, word);

// CK_FUNCTION_LIST as far as it matters: the functions of PKCS#11 2.40 in their order. All arguments of all of them are
// words or pointers, at most eight, so that one type passes them on.
struct list {
	unsigned char version[2];
	function *f[68];
};
struct mechanism { word type; void *parameter; word size; };
struct gcm { unsigned char *iv; word iv_size; word iv_bits; void *aad; word aad_size; word tag_bits; };
struct oaep { word hash, mgf, source; void *data; word size; };

static struct list *real, mine;

static int ordered(const char *name) {
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", ORDERS, name);
	return access(path, F_OK) == 0;
}

// order returns the code in an order, or 0.
static word order(const char *name) {
	char path[4096];
	word code = 0;
	snprintf(path, sizeof path, "%s/%s", ORDERS, name);
	FILE *f = fopen(path, "r");
	if (f) { if (fscanf(f, "%lx", &code) != 1) code = 5; fclose(f); }
	return code;
}

// called notes the call, stalls, and returns the code that was ordered, or 0.
static word called(const char *name) {
	FILE *f = fopen(ORDERS "/calls", "a");
	if (f) { fprintf(f, "%s\n", name); fclose(f); }
	while (ordered("stall")) usleep(2000);
	return order(name);
}

// damaged returns another code for a failure, if that was ordered.
static word damaged(word code) {
	word other = code ? order("damaged") : 0;
	return other ? other : code;
}

#define ARGUMENTS word a, word b, word c, word d, word e, word f, word g, word h
#define PASS(i) real->f[i](a, b, c, d, e, f, g, h)
#define FORWARD(i, name) \
	static word name(ARGUMENTS) { word code = called(#name); return code ? code : PASS(i); }

FORWARD(0, C_Initialize)
FORWARD(4, C_GetSlotList)
FORWARD(12, C_OpenSession)
FORWARD(13, C_CloseSession)
FORWARD(15, C_GetSessionInfo)
FORWARD(18, C_Login)
FORWARD(20, C_CreateObject)
FORWARD(24, C_GetAttributeValue)
FORWARD(26, C_FindObjectsInit)
FORWARD(30, C_Encrypt)

static word C_Decrypt(ARGUMENTS) {
	word code = called("C_Decrypt");
	if (code == 0) return damaged(PASS(34));
	unsigned char out[4096];
	word size = sizeof out;
	real->f[34](a, b, c, (word)out, (word)&size, 0, 0, 0); // a failure ends the operation
	return code;
}

static word C_GetTokenInfo(ARGUMENTS) {
	word code = called("C_GetTokenInfo");
	if (code == 0) code = PASS(6);
	if (code == 0 && ordered("final-try")) *(word *)((char *)b + 96) |= 0x20000; // flags of CK_TOKEN_INFO
	return code;
}

// stand_in puts a mechanism that REAL knows in the place of *m, or returns the code for a parameter that is wrong.
static word stand_in(struct mechanism *m, struct oaep *o) {
	if (m->type == 0x210B) m->type = 0x210A;
	if (m->type != 9) return 0;
	if (m->size != sizeof *o) return 0x71;
	*o = *(struct oaep *)m->parameter;
	if (o->hash != 0x250 || o->mgf != 2 || o->source != 1 || o->size != 0) return 0x71;
	o->hash = 0x220, o->mgf = 1;
	m->parameter = o;
	return 0;
}

#define STAND_IN(i, name, extra, judged) \
	static word name(ARGUMENTS) { \
		struct mechanism m = *(struct mechanism *)b; \
		struct oaep o; \
		word code = called(#name); \
		if (code == 0) code = stand_in(&m, &o); \
		b = (word)&m; \
		extra \
		return code ? code : judged(PASS(i)); \
	}

STAND_IN(29, C_EncryptInit, if (m.type == 0x1087 && ordered("hsm-iv")) {
	static const unsigned char zeros[12];
	struct gcm *p = m.parameter;
	if (p->iv_size != 12 || memcmp(p->iv, zeros, 12)) return 0x71;
	FILE *random = fopen("/dev/urandom", "r");
	if (!random || fread(p->iv, 12, 1, random) != 1) return 0x121;
	fclose(random);
}, )
STAND_IN(33, C_DecryptInit, , )
STAND_IN(60, C_WrapKey, , )
STAND_IN(61, C_UnwrapKey, , damaged)

word C_GetFunctionList(struct list **list) {
	void *library = dlopen(REAL, RTLD_NOW);
	word (*get)(struct list **) = library ? dlsym(library, "C_GetFunctionList") : 0;
	if (!get) return 5;
	word code = get(&real);
	if (code) return code;
	mine = *real;
	mine.f[0] = C_Initialize, mine.f[4] = C_GetSlotList, mine.f[6] = C_GetTokenInfo, mine.f[12] = C_OpenSession;
	mine.f[13] = C_CloseSession, mine.f[15] = C_GetSessionInfo, mine.f[18] = C_Login, mine.f[20] = C_CreateObject;
	mine.f[24] = C_GetAttributeValue, mine.f[26] = C_FindObjectsInit, mine.f[29] = C_EncryptInit, mine.f[30] = C_Encrypt;
	mine.f[33] = C_DecryptInit, mine.f[34] = C_Decrypt, mine.f[60] = C_WrapKey, mine.f[61] = C_UnwrapKey;
	*list = &mine;
	return 0;
}
