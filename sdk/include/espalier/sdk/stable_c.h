#ifndef ESPALIER_SDK_STABLE_C_H
#define ESPALIER_SDK_STABLE_C_H

/*
 * The stable tier: plugins in C (or anything that speaks C) that work with every Espalier of the
 * same major version of this header, whatever compiler, C++ library and LibTorch it was built with.
 * For losses and kernels, where plain numbers go in and out.
 *
 * Rules. Structures begin with their size; a later minor version adds fields at the end, and who
 * reads one looks at struct_size before he reads those. Everything is borrowed for the length of a
 * call, but for what is registered, which is static. Tensors are dense and row-major; outputs and
 * workspace are allocated by the host. Functions return 0, or a code and a text in `message`. They
 * may be called from several threads, for one object from one thread at a time. sdk/abi records
 * the layouts; a test compares them.
 */

#include "espalier/sdk/descriptor.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ESPALIER_C_ABI_MAJOR 1
#define ESPALIER_C_ABI_MINOR 0

/** Result codes; other values count as ESPALIER_C_FAILED. */
enum {
  ESPALIER_C_OK = 0,
  ESPALIER_C_BAD_INPUT = 1,   /**< the user's setting or data is wrong */
  ESPALIER_C_FAILED = 2,      /**< the plugin could not do what it should */
  ESPALIER_C_UNSUPPORTED = 3, /**< a valid request that this plugin or machine can't serve */
};

/** Device types and type codes are those of DLPack 1.0, and EspalierCTensor is its DLTensor. */
enum { ESPALIER_C_CPU = 1, ESPALIER_C_CUDA = 2 };
enum {
  ESPALIER_C_INT = 0,
  ESPALIER_C_UINT = 1,
  ESPALIER_C_FLOAT = 2,
  ESPALIER_C_BFLOAT = 4,
  ESPALIER_C_BOOL = 6
};

typedef struct EspalierCDevice {
  int32_t device_type;
  int32_t device_id;
} EspalierCDevice;

typedef struct EspalierCDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes; /**< 1 */
} EspalierCDataType;

/** A borrowed view. Strides count elements. `data` is null for a tensor that is not wanted. */
typedef struct EspalierCTensor {
  void* data;
  EspalierCDevice device;
  int32_t ndim;
  EspalierCDataType dtype;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset; /**< added to data */
} EspalierCTensor;

/** Shape and type of a tensor that the host is to allocate. */
typedef struct EspalierCShape {
  int32_t ndim; /**< at most 8 */
  EspalierCDataType dtype;
  int64_t sizes[8];
} EspalierCShape;

/** One setting of a component. */
typedef struct EspalierCField {
  uint32_t struct_size;
  const char* name;
  const char* type;          /**< "bool", "int", "float" or "string" */
  const char* doc;           /**< what it does */
  const char* default_value; /**< as JSON: "2.0", "true", "\"sum\""; null: it is required */
  const double* minimum;     /**< null: none */
  const double* maximum;
} EspalierCField;

/** The value of a setting, checked by the host. */
typedef struct EspalierCValue {
  const char* name;
  double number;    /**< of "int" and "float"; 0 or 1 of "bool" */
  int64_t integer;  /**< of "int" and "bool" */
  const char* text; /**< of "string", otherwise null */
} EspalierCValue;

typedef struct EspalierCConfig {
  uint32_t struct_size;
  size_t num_values;
  const EspalierCValue* values; /**< in the order of the fields */
} EspalierCConfig;

/** What a computation gets. Scalar arguments are those of the op, see espalier/ops. */
typedef struct EspalierCCall {
  uint32_t struct_size;
  int32_t num_threads; /**< that it may use */
  size_t num_inputs;
  const EspalierCTensor* inputs;
  size_t num_outputs;
  EspalierCTensor* outputs;
  void* workspace; /**< as many bytes as asked for, aligned to 64; null for none */
  size_t workspace_bytes;
  void* stream; /**< cudaStream_t on which to work; null on the CPU */
  double numbers[4];
  int64_t integers[4];
  char* message; /**< for a failure, always terminated */
  size_t message_size;
} EspalierCCall;

/** A loss over labelled rows; see espalier/sdk/loss.h. */
typedef struct EspalierCLoss {
  uint32_t struct_size;
  const char* name;
  const char* doc;
  size_t num_fields;
  const EspalierCField* fields;
  /** Puts an object of the plugin's own into *self. */
  int32_t (*create)(const EspalierCConfig* config, void** self, char* message, size_t message_size);
  void (*destroy)(void* self);
  /** Bytes for `rows` rows of `vocab` logits; null: none. */
  size_t (*workspace)(void* self, int64_t rows, int64_t vocab);
  /**
   * inputs: logits [rows, vocab] of float32, bfloat16 or float16, labels [rows] int64, none of them
   * -100. outputs: the sum over the rows, a float32 scalar; the gradient of the sum for the logits,
   * of their type and shape, with null data where nobody wants it.
   */
  int32_t (*compute)(void* self, const EspalierCCall* call);
} EspalierCLoss;

/** One implementation of an op of the host's table; see espalier/ops/op.h. */
typedef struct EspalierCKernel {
  uint32_t struct_size;
  const char* op;   /**< "gated_activation" */
  const char* name; /**< of the implementation, "avx2" */
  int32_t priority; /**< the highest that supports a call is taken; the reference has 0 */
  size_t num_outputs;
  size_t num_saved; /**< further tensors that forward leaves for backward */
  /** Not 0 when it takes such a call; a call without outputs. Null: always. */
  int32_t (*supports)(const EspalierCCall* call);
  /** Shapes of the outputs, then of the saved tensors. */
  int32_t (*describe)(const EspalierCCall* call, EspalierCShape* shapes);
  /** Bytes of workspace; null: none. */
  size_t (*workspace)(const EspalierCCall* call, int32_t backward);
  /** outputs: the outputs, then the saved tensors. */
  int32_t (*forward)(const EspalierCCall* call);
  /**
   * inputs: those of forward, then the saved tensors, then the gradient of each output. outputs:
   * the gradient of each input of forward, with null data where it is not wanted.
   */
  int32_t (*backward)(const EspalierCCall* call);
} EspalierCKernel;

typedef struct EspalierCKernelPack {
  uint32_t struct_size;
  const char* name;
  const char* doc;
  int32_t device_type; /**< where its tensors lie */
  /** Returns 0 when this machine can run the pack, otherwise the reason is in `message`. Null: yes.
   */
  int32_t (*unavailable)(char* message, size_t message_size);
  size_t num_kernels;
  const EspalierCKernel* const* kernels;
} EspalierCKernelPack;

/** Given to the plugin's register function. Functions return 0, or refuse with a code. */
typedef struct EspalierCRegistrar {
  uint32_t struct_size;
  void* host;
  int32_t (*add_loss)(void* host, const EspalierCLoss* loss);
  int32_t (*add_kernel_pack)(void* host, const EspalierCKernelPack* pack);
  int32_t (*require)(void* host, const char* requirement); /**< "vendor.name >= 1.2, < 2" */
  int32_t (*license)(void* host, const char* spdx);
} EspalierCRegistrar;

/**
 * Once per plugin. REGISTER is int32_t (const EspalierCRegistrar*, char* message, size_t size).
 *
 *     ESPALIER_C_PLUGIN("acme.losses", "1.0.0", register_components)
 */
#define ESPALIER_C_PLUGIN(ID, VERSION, REGISTER)                                                 \
  static int32_t espalier_c_register(void* registrar, char* message, size_t size) {              \
    return REGISTER((const EspalierCRegistrar*)registrar, message, size);                        \
  }                                                                                              \
  __attribute__((visibility("default"))) const struct EspalierPluginDescriptor* espalier_plugin( \
      void) {                                                                                    \
    static const struct EspalierPluginDescriptor descriptor = {                                  \
        sizeof(struct EspalierPluginDescriptor),                                                 \
        ESPALIER_PLUGIN_MAGIC,                                                                   \
        ESPALIER_C_ABI_MAJOR,                                                                    \
        ESPALIER_C_ABI_MINOR,                                                                    \
        "stable_c",                                                                              \
        "",                                                                                      \
        ID,                                                                                      \
        VERSION,                                                                                 \
        espalier_c_register,                                                                     \
        NULL};                                                                                   \
    return &descriptor;                                                                          \
  }

#ifdef __cplusplus
}
#endif

#endif
