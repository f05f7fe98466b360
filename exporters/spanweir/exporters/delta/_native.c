/* Texts of Python -> Arrow arrays, twin of `arrow._strings_in_python` and `cells._unquoted_in_python`.
 *
 * Arrays are handed over by Arrow's C data interface, in memory of their size: each text is moved once, where a list of
 * texts, a builder that grows and an array for each part move it several times.
 *
 * Not here: columns of which not all are texts, columns without a byte, more than 2 GB. For these None is returned, and
 * Python makes the array.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef SOURCE_DIGEST
#define SOURCE_DIGEST ""
#endif

/* Source: the Arrow C data interface, "Structure definitions". */
struct ArrowArray {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct ArrowArray **children;
    struct ArrowArray *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

/* What belongs to an array. Whoever took the array frees it, maybe without the interpreter: nothing of Python in it. */
typedef struct {
    const void *buffers[3];
    struct ArrowArray *children[2];
    struct ArrowArray owned[2];
} Parts;

enum { MADE, FOR_PYTHON, FAILED };

static int no_memory(void) {
    PyErr_NoMemory();
    return FAILED;
}

static void release_array(struct ArrowArray *array) {
    Parts *parts = array->private_data;
    for (int i = 0; i < array->n_children; i++) {
        if (parts->owned[i].release != NULL) parts->owned[i].release(&parts->owned[i]);
    }
    for (int i = 0; i < array->n_buffers; i++) free((void *)parts->buffers[i]);
    free(parts);
    array->release = NULL;
}

static Parts *begin(struct ArrowArray *array, int64_t length, int buffers, int children) {
    Parts *parts = calloc(1, sizeof(Parts));
    if (parts == NULL) return NULL;
    *array = (struct ArrowArray){
        .length = length, .n_buffers = buffers, .n_children = children, .buffers = parts->buffers,
        .children = parts->children, .release = release_array, .private_data = parts,
    };
    for (int i = 0; i < children; i++) parts->children[i] = &parts->owned[i];
    return parts;
}

static void free_array(PyObject *capsule) {
    struct ArrowArray *array = PyCapsule_GetPointer(capsule, "arrow_array");
    if (array->release != NULL) array->release(array); /* nobody took it */
    free(array);
}

/* The array in a capsule, or None if it was left to Python. */
static PyObject *handed_over(struct ArrowArray *array, int outcome) {
    PyObject *capsule = NULL;
    if (outcome == MADE && (capsule = PyCapsule_New(array, "arrow_array", free_array)) != NULL) return capsule;
    if (array->release != NULL) array->release(array);
    free(array);
    return outcome == FOR_PYTHON ? Py_NewRef(Py_None) : NULL;
}

/* -------------------------------------------------------------------------------------------------------- texts */

/* A part of a str, all of a bytes object that is UTF-8, or null. The reference is borrowed. */
typedef struct {
    PyObject *text;
    Py_ssize_t start, stop;
} Piece;

static inline Piece whole(PyObject *text) {
    return (Piece){text, 0, PyUnicode_Check(text) ? PyUnicode_GET_LENGTH(text) : PyBytes_GET_SIZE(text)};
}

static int is_utf8(PyObject *bytes) {
    const char *text = PyBytes_AS_STRING(bytes);
    Py_ssize_t size = PyBytes_GET_SIZE(bytes), at = 0;
    for (uint64_t word; at + 8 <= size; at += 8) {
        memcpy(&word, text + at, 8);
        if (word & 0x8080808080808080ULL) break;
    }
    while (at < size && !(text[at] & 0x80)) at++;
    if (at == size) return 1;
    PyObject *decoded = PyUnicode_DecodeUTF8(text + at, size - at, NULL);
    Py_XDECREF(decoded);
    PyErr_Clear();
    return decoded != NULL;
}

/* No less than a piece comes to. */
static inline uint64_t most_bytes(Piece piece) {
    uint64_t length = piece.stop - piece.start;
    if (PyBytes_Check(piece.text) || PyUnicode_IS_ASCII(piece.text)) return length;
    return length * (PyUnicode_KIND(piece.text) == 1 ? 2 : PyUnicode_KIND(piece.text) == 2 ? 3 : 4);
}

/* Half a surrogate pair becomes a question mark, as `str.encode("utf-8", "replace")` has it. */
static char *encode(char *at, Piece piece) {
    int kind = PyUnicode_KIND(piece.text);
    const void *data = PyUnicode_DATA(piece.text);
    for (Py_ssize_t i = piece.start; i < piece.stop; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        if (c < 0x80) {
            *at++ = (char)c;
        } else if (c < 0x800) {
            *at++ = (char)(0xC0 | c >> 6);
            *at++ = (char)(0x80 | (c & 0x3F));
        } else if (c >= 0xD800 && c < 0xE000) {
            *at++ = '?';
        } else {
            if (c < 0x10000) {
                *at++ = (char)(0xE0 | c >> 12);
            } else {
                *at++ = (char)(0xF0 | c >> 18);
                *at++ = (char)(0x80 | (c >> 12 & 0x3F));
            }
            *at++ = (char)(0x80 | (c >> 6 & 0x3F));
            *at++ = (char)(0x80 | (c & 0x3F));
        }
    }
    return at;
}

static char *put(char *at, Piece piece) {
    const char *bytes;
    if (PyBytes_Check(piece.text)) {
        bytes = PyBytes_AS_STRING(piece.text);
    } else if (PyUnicode_IS_ASCII(piece.text)) {
        bytes = PyUnicode_DATA(piece.text);
    } else {
        return encode(at, piece);
    }
    memcpy(at, bytes + piece.start, piece.stop - piece.start);
    return at + (piece.stop - piece.start);
}

/* An array of type STRING. */
static int make_texts(struct ArrowArray *array, const Piece *pieces, Py_ssize_t count) {
    uint64_t most = 0;
    int64_t nulls = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (pieces[i].text == NULL) nulls++;
        else most += most_bytes(pieces[i]);
    }
    if (most == 0 || most > INT32_MAX) return FOR_PYTHON;
    Parts *parts = begin(array, count, 3, 0);
    if (parts == NULL) return no_memory();
    array->null_count = nulls;
    uint8_t *there = nulls ? calloc(count / 8 + 1, 1) : NULL;
    int32_t *offsets = malloc((count + 1) * sizeof(int32_t));
    char *start = malloc(most), *at = start;
    parts->buffers[0] = there;
    parts->buffers[1] = offsets;
    parts->buffers[2] = start;
    if (offsets == NULL || start == NULL || (nulls && there == NULL)) return no_memory();
    for (Py_ssize_t i = 0; i < count; i++) {
        offsets[i] = (int32_t)(at - start);
        if (pieces[i].text == NULL) continue;
        if (there != NULL) there[i / 8] |= 1 << i % 8;
        at = put(at, pieces[i]);
    }
    offsets[count] = (int32_t)(at - start);
    if ((uint64_t)(at - start) < most / 2) {
        char *shorter = realloc(start, at - start);
        if (shorter != NULL) parts->buffers[2] = shorter;
    }
    return MADE;
}

static PyObject *strings(PyObject *Py_UNUSED(module), PyObject *values) {
    PyObject *items = PySequence_Fast(values, "a column is a sequence");
    if (items == NULL) return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(items), of_bytes = 0, of_str = 0;
    Piece *pieces = calloc(count + 1, sizeof(Piece));
    struct ArrowArray *array = calloc(1, sizeof(struct ArrowArray));
    int outcome = pieces == NULL || array == NULL ? no_memory() : MADE;
    for (Py_ssize_t i = 0; i < count && outcome == MADE; i++) {
        PyObject *item = PySequence_Fast_GET_ITEM(items, i);
        if (item == Py_None) continue;
        if (PyUnicode_Check(item)) of_str = 1;
        else if (PyBytes_Check(item) && is_utf8(item)) of_bytes = 1;
        else outcome = FOR_PYTHON;
        if (outcome == MADE) pieces[i] = whole(item);
    }
    if (of_bytes && of_str) outcome = FOR_PYTHON;
    if (outcome == MADE) outcome = make_texts(array, pieces, count);
    free(pieces);
    Py_DECREF(items);
    if (array == NULL) return NULL;
    return handed_over(array, outcome);
}

/* --------------------------------------------------------------------------------------------------- attributes */

typedef struct {
    Piece *keys, *values;
    Py_ssize_t count;
    PyObject *kept; /* a list: texts that were made for pieces */
} Entries;

/* What `function` makes of a value: a text, or null. */
static int made_by(PyObject *function, PyObject *value, Entries *entries, Piece *piece) {
    PyObject *text = PyObject_CallOneArg(function, value);
    if (text == NULL) return FAILED;
    int outcome = MADE;
    if (PyUnicode_Check(text)) {
        *piece = whole(text);
        if (PyList_Append(entries->kept, text) < 0) outcome = FAILED;
    } else if (text != Py_None) {
        outcome = FOR_PYTHON;
    }
    Py_DECREF(text);
    return outcome;
}

/* A JSON text: a JSON string as its text, everything else as JSON. */
static int own_value(PyObject *value, PyObject *unquote, Entries *entries, Piece *piece) {
    *piece = whole(value);
    if (piece->stop == 0 || PyUnicode_READ_CHAR(value, 0) != '"') return MADE;
    if (PyUnicode_FindChar(value, '\\', 0, piece->stop, 1) >= 0) return made_by(unquote, value, entries, piece);
    piece->start = 1;
    piece->stop = piece->stop > 1 ? piece->stop - 1 : 1;
    return MADE;
}

static int add(Entries *entries, PyObject *bag, PyObject *function, int own) {
    PyObject *key, *value;
    Py_ssize_t place = 0;
    int outcome = MADE;
    while (outcome == MADE && PyDict_Next(bag, &place, &key, &value)) {
        if (!PyUnicode_Check(key) || (own && !PyUnicode_Check(value))) return FOR_PYTHON;
        Piece *piece = &entries->values[entries->count];
        entries->keys[entries->count++] = whole(key);
        if (own) outcome = own_value(value, function, entries, piece);
        else if (PyUnicode_CheckExact(value)) *piece = whole(value);
        else outcome = made_by(function, value, entries, piece);
    }
    return outcome;
}

/* An array of type MAP<STRING, STRING>, whose entries are an array of structs. */
static int make_maps(struct ArrowArray *array, const Entries *entries, int32_t *offsets, Py_ssize_t count) {
    Parts *parts = begin(array, count, 2, 1), *of_entries;
    if (parts == NULL) {
        free(offsets);
        return no_memory();
    }
    parts->buffers[1] = offsets;
    of_entries = begin(&parts->owned[0], entries->count, 1, 2);
    if (of_entries == NULL) return no_memory();
    int outcome = make_texts(&of_entries->owned[0], entries->keys, entries->count);
    return outcome == MADE ? make_texts(&of_entries->owned[1], entries->values, entries->count) : outcome;
}

static PyObject *attribute_maps(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "two lists of dictionaries and two functions are needed");
        return NULL;
    }
    if (!PyList_Check(args[0]) || !PyList_Check(args[1])) Py_RETURN_NONE;
    Py_ssize_t rows = PyList_GET_SIZE(args[0]);
    size_t most = 0;
    if (PyList_GET_SIZE(args[1]) != rows) Py_RETURN_NONE;
    for (Py_ssize_t i = 0; i < rows; i++) {
        PyObject *own = PyList_GET_ITEM(args[0], i), *given = PyList_GET_ITEM(args[1], i);
        if (!PyDict_Check(own) || !PyDict_Check(given)) Py_RETURN_NONE;
        most += PyDict_GET_SIZE(own) + PyDict_GET_SIZE(given);
    }
    if (most > INT32_MAX) Py_RETURN_NONE;
    Entries entries = {calloc(most + 1, sizeof(Piece)), calloc(most + 1, sizeof(Piece)), 0, PyList_New(0)};
    int32_t *offsets = malloc((rows + 1) * sizeof(int32_t));
    struct ArrowArray *array = calloc(1, sizeof(struct ArrowArray));
    int made = entries.keys && entries.values && entries.kept && offsets && array, outcome = made ? MADE : no_memory();
    for (Py_ssize_t i = 0; i < rows && outcome == MADE; i++) {
        offsets[i] = (int32_t)entries.count;
        outcome = add(&entries, PyList_GET_ITEM(args[0], i), args[2], 1);
        if (outcome == MADE) outcome = add(&entries, PyList_GET_ITEM(args[1], i), args[3], 0);
    }
    if (outcome == MADE) {
        offsets[rows] = (int32_t)entries.count;
        outcome = make_maps(array, &entries, offsets, rows);
    } else {
        free(offsets);
    }
    free(entries.keys);
    free(entries.values);
    Py_XDECREF(entries.kept);
    return array == NULL ? NULL : handed_over(array, outcome);
}

static PyMethodDef methods[] = {
    {"strings", strings, METH_O, NULL},
    {"attribute_maps", (PyCFunction)(void (*)(void))attribute_maps, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_native", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__native(void) {
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddStringConstant(module, "SOURCE", SOURCE_DIGEST) < 0) Py_CLEAR(module);
    return module;
}
