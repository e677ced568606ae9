#pragma once
#include "AEEStdErr.h"
typedef enum { HAP_DCVS_VCORNER_DISABLE, HAP_DCVS_VCORNER_MAX = 255 } HAP_dcvs_voltage_corner_t;
typedef enum {
    HAP_power_set_HVX = 2,
    HAP_power_set_apptype = 3,
    HAP_power_set_DCVS_v3 = 8
} HAP_Power_request_type;
typedef enum { HAP_POWER_COMPUTE_CLIENT_CLASS = 3 } HAP_power_app_type_payload;
typedef struct {
    HAP_dcvs_voltage_corner_t target_corner, min_corner, max_corner;
    int param1, param2, param3;
} HAP_dcvs_v3_params_t;
typedef struct {
    boolean set_dcvs_enable, dcvs_enable;
    int dcvs_option;
    boolean set_latency;
    unsigned latency;
    boolean set_core_params;
    HAP_dcvs_v3_params_t core_params;
    boolean set_bus_params;
    HAP_dcvs_v3_params_t bus_params;
    boolean set_dcvs_v3_params, set_sleep_disable;
    unsigned char sleep_disable;
} HAP_power_dcvs_v3_payload;
typedef struct { boolean power_up; } HAP_power_hvx_payload;
typedef struct {
    HAP_Power_request_type type;
    union {
        HAP_power_hvx_payload hvx;
        HAP_power_app_type_payload apptype;
        HAP_power_dcvs_v3_payload dcvs_v3;
    };
} HAP_power_request_t;
int HAP_power_set(void* context, HAP_power_request_t* request);
